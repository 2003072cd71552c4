import type { Agent } from '../spiffe/agent.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { CallContext, TlsCaller } from '../rpc/call.ts'
import type { Clock } from '../runtime/clock.ts'
import { AdminAccess, type AdminDenial } from '../authz/admin/access.ts'
import type { Privileges } from '../authz/admin/decide.ts'
import type { AdminRole, AdminRoles } from '../authz/admin/role.ts'
import { methodVerbs } from '../authz/admin/verb.ts'
import type { ApiDecision, ApiPolicyEvaluator } from '../authz/apipolicy/evaluator.ts'
import { requestDocument } from '../authz/apipolicy/request-document.ts'
import type { Replica } from './replication/replica.ts'
import type { StandAside } from './replication/stand-aside.ts'

export interface AuthorizeDeps {
  readonly adminIds: ReadonlySet<SpiffeId>
  readonly roles: AdminRoles
  /** Of what IDs can do: the more is known of them, the less can be had by making one. */
  readonly privileges: Privileges
  /** Whether processes on the admin socket need a role, unless they are root's or of the server's own user. */
  readonly socketRequiresRole: boolean
  readonly policy: ApiPolicyEvaluator
  readonly replica: Replica
  readonly aside: StandAside
  readonly clock: Clock
}

/** As what a call was admitted, and by what; SPIRE's words for its audit log, `roles` apart, which it has not. */
export interface Admission {
  readonly as: 'local' | 'admin' | 'downstream' | 'agent'
  readonly via: 'transport' | 'config' | 'entries' | 'roles' | 'datastore'
}

/** Decides each call before its handler runs; handlers ask it who an agent is. */
export class Authorizer {
  readonly #deps: AuthorizeDeps
  readonly #agents = new WeakMap<CallContext, SpiffeId>()
  readonly #access = new WeakMap<CallContext, AdminAccess>()
  readonly #admissions = new WeakMap<CallContext, Admission>()

  constructor (deps: AuthorizeDeps) { this.#deps = deps }

  /**
   * In the order of spire-surface §1.1: anyone, local, admin by configuration, admin by entry, downstream, agent; between admin and
   * downstream, those who have a role. A process on the admin socket whose user has a role has no more than it says.
   * @throws {SpiffeError} `authorization_denied`, `administration_denied` where no role grants the method, or the agent's own refusal where
   *   only the agent check failed; `spiffe_id_revoked` and `svid_revoked` for whoever shows what is revoked; `replica_stale` for whoever is
   *   admitted by what this replica may not know the latest of: agents, admins by entry, those with a role; `replica_aside` for agents,
   *   also future ones
   */
  async authorize (context: CallContext): Promise<void> {
    const { caller, method } = context
    const { policy, replica, aside } = this.#deps
    const allowed = await policy.evaluate({
      caller: caller.kind === 'tls' ? caller.svid?.id ?? '' : '', callerFilePath: '', fullMethod: method,
      req: policy.wantsRequest === true ? requestDocument(context.request?.()) : null
    })
    if (caller.kind === 'tls' && !allowed.allowIfAdmin) aside.requireDuty()
    if (allowed.allow) {
      this.#access.set(context, AdminAccess.unrestricted)
      return
    }
    if (caller.kind === 'unix') {
      if (!allowed.allowIfLocal) throw denied(context)
      this.#access.set(context, this.#localAccess(caller.peer.uid, context))
      this.#admissions.set(context, { as: 'local', via: 'transport' })
      return
    }
    if (caller.svid === undefined) throw denied(context)
    replica.revocations.requireSvid(caller.svid)
    const admitted = this.#remoteAccess(caller.svid.id, allowed, context)
    if (admitted !== undefined) {
      this.#access.set(context, admitted)
      return
    }
    if (!allowed.allowIfAgent) throw denied(context)
    aside.requireDuty()
    this.#agents.set(context, (await this.#admit(caller, context)).id)
    this.#admissions.set(context, { as: 'agent', via: 'datastore' })
    // What operators and agents both may ask is answered to agents without a look at roles: they have none.
    this.#access.set(context, AdminAccess.unrestricted)
  }

  /** What this call may do, object by object. */
  accessOf (context: CallContext): AdminAccess {
    const access = this.#access.get(context)
    if (access === undefined) throw denied(context)
    return access
  }

  /** `undefined` for what anybody may, and for whom nothing admitted. */
  admissionOf (context: CallContext): Admission | undefined { return this.#admissions.get(context) }

  /**
   * The attested agent that makes this call, as it is now: who has waited asks again before it gives the agent anything.
   * @throws {SpiffeError} `agent_not_attested`, `agent_banned`: since the call began
   */
  agentOf (context: CallContext): Agent {
    const id = this.#agents.get(context)
    if (id === undefined) throw denied(context)
    try {
      return this.#deps.replica.agents.standing(id)
    } catch (error) {
      throw deniedBy(error, context)
    }
  }

  /** @throws {SpiffeError} `administration_denied`, `authorization_denied` */
  #localAccess (uid: number, context: CallContext): AdminAccess {
    const { roles, socketRequiresRole } = this.#deps
    const held = roles.ofUid(uid)
    if (held.length > 0) return this.#roleAccess(held, context)
    if (socketRequiresRole && uid !== 0 && uid !== process.getuid?.()) throw denied(context)
    return AdminAccess.unrestricted
  }

  /** `undefined`: admitted as an agent or not at all. @throws {SpiffeError} `administration_denied`, `replica_stale` */
  #remoteAccess (id: SpiffeId, allowed: ApiDecision, context: CallContext): AdminAccess | undefined {
    const { adminIds, replica, roles } = this.#deps
    const admit = (as: Admission['as'], via: Admission['via'], access = AdminAccess.unrestricted) => {
      this.#admissions.set(context, { as, via })
      return access
    }
    if (allowed.allowIfAdmin && adminIds.has(id)) return admit('admin', 'config')
    replica.requireFresh()
    if (allowed.allowIfAdmin && replica.registry.someEntry(id, entry => entry.admin)) return admit('admin', 'entries')
    const held = allowed.allowIfAdmin ? roles.ofId(id) : []
    if (held.length > 0) return admit('admin', 'roles', this.#roleAccess(held, context))
    if (allowed.allowIfDownstream && replica.registry.someEntry(id, entry => entry.downstream)) return admit('downstream', 'entries')
    return undefined
  }

  #roleAccess (roles: readonly AdminRole[], context: CallContext): AdminAccess {
    const verb = methodVerbs.get(context.method)
    if (verb === undefined) throw denied(context)
    let told = 0
    const access = AdminAccess.byRoles({
      roles,
      privileges: this.#deps.privileges,
      onDenied: denial => { if (told++ < mostDenialsTold) tell(denial, roles, context) }
    })
    access.require(verb)
    return access
  }

  async #admit (caller: TlsCaller, context: CallContext): Promise<Agent> {
    const { id, leaf } = caller.svid as NonNullable<TlsCaller['svid']>
    try {
      return await this.#deps.replica.agents.admit(id, leaf.serialNumber, leaf.notAfter, this.#deps.clock.now())
    } catch (error) {
      throw deniedBy(error, context)
    }
  }
}

/** Of one call: a batch may be refused item by item. */
const mostDenialsTold = 20

function tell ({ verb, role, outside, value }: AdminDenial, roles: readonly AdminRole[], { log }: CallContext): void {
  log.warn({ verb, role, outside, value, roles: roles.map(({ name }) => name) }, 'administration denied')
}

function denied (context: CallContext): SpiffeError {
  return new SpiffeError('authorization_denied', deniedText(context))
}

/** What an agent is refused with, in SPIRE's words. */
function deniedBy (error: unknown, context: CallContext): unknown {
  const code = codeOf(error)
  return code === undefined ? error : new SpiffeError(code, deniedText(context), { cause: error })
}

function deniedText (context: CallContext): string {
  return `authorization denied for method ${context.method}`
}

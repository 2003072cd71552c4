import type { Agent } from '../spiffe/agent.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { CallContext, TlsCaller } from '../rpc/call.ts'
import type { Clock } from '../runtime/clock.ts'
import { serverApiPolicy } from '../authz/server-api-policy.ts'
import type { Replica } from './replication/replica.ts'
import type { StandAside } from './replication/stand-aside.ts'

export interface AuthorizeDeps {
  readonly adminIds: ReadonlySet<SpiffeId>
  readonly replica: Replica
  readonly aside: StandAside
  readonly clock: Clock
}

/** Decides each call before its handler runs; handlers ask it who an agent is. */
export class Authorizer {
  readonly #deps: AuthorizeDeps
  readonly #agents = new WeakMap<CallContext, Agent>()

  constructor (deps: AuthorizeDeps) { this.#deps = deps }

  /**
   * In the order of spire-surface §1.1: anyone, local, admin by configuration, admin by entry, downstream, agent.
   * @throws {SpiffeError} `authorization_denied`, or the agent's own refusal where only the agent check failed; `spiffe_id_revoked` and
   *   `svid_revoked` for whoever shows what is revoked; `replica_stale` for agents and admins by entry where this replica may not know the
   *   latest; `replica_aside` for agents, also future ones
   */
  async authorize (context: CallContext): Promise<void> {
    const allowed = serverApiPolicy.get(context.method) ?? []
    const { caller } = context
    if (caller.kind === 'tls' && !allowed.includes('admin')) this.#deps.aside.requireDuty()
    if (allowed.includes('anyone')) return
    if (caller.kind === 'unix') {
      if (allowed.includes('local')) return
      throw denied(context)
    }
    if (caller.svid === undefined) throw denied(context)
    this.#deps.replica.revocations.requireSvid(caller.svid)
    if (allowed.includes('admin') && this.#deps.adminIds.has(caller.svid.id)) return
    this.#deps.replica.requireFresh()
    if (allowed.includes('admin') && this.#deps.replica.registry.someEntry(caller.svid.id, entry => entry.admin)) return
    if (allowed.includes('downstream') && this.#deps.replica.registry.someEntry(caller.svid.id, entry => entry.downstream)) return
    if (!allowed.includes('agent')) throw denied(context)
    this.#deps.aside.requireDuty()
    this.#agents.set(context, await this.#admit(caller, context))
  }

  /** The attested agent that makes this call. */
  agentOf (context: CallContext): Agent {
    const agent = this.#agents.get(context)
    if (agent === undefined) throw denied(context)
    return agent
  }

  async #admit (caller: TlsCaller, context: CallContext): Promise<Agent> {
    const { id, leaf } = caller.svid as NonNullable<TlsCaller['svid']>
    try {
      return await this.#deps.replica.agents.admit(id, leaf.serialNumber, leaf.notAfter, this.#deps.clock.now())
    } catch (error) {
      const code = codeOf(error)
      if (code === undefined) throw error
      throw new SpiffeError(code, deniedText(context), { cause: error })
    }
  }
}

function denied (context: CallContext): SpiffeError {
  return new SpiffeError('authorization_denied', deniedText(context))
}

function deniedText (context: CallContext): string {
  return `authorization denied for method ${context.method}`
}

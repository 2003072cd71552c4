import { isDeepStrictEqual } from 'node:util'
import type { OwnBundle } from '../../ca/own-bundle.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { Agent } from '../../spiffe/agent.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { Entry } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { FederationRelationship } from '../../spiffe/federation-relationship.ts'
import type { ServiceEndpoint } from '../../spiffe/service-endpoint.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { ChangedState, Cursor } from '../../storage/change-log.ts'
import type { Datastore } from '../../storage/datastore.ts'
import { everything } from '../../storage/page.ts'
import { AgentDirectory } from '../agent-directory.ts'
import { PolicyIndex } from '../policy-index.ts'
import { Follower, type Followed } from './follower.ts'
import { Registry } from '../registry.ts'
import { ServiceIndex, type MeshChange } from '../service-index.ts'
import { StandingRevocations } from '../standing-revocations.ts'
import type { Touched } from '../touches.ts'

/** What a replica tells its listeners after its memory changed. */
export interface ReplicaChange {
  readonly cursor: Cursor
  readonly touched: ReadonlyMap<SpiffeId, Touched>
  /** Trust domains whose bundle changed or went. */
  readonly bundles: ReadonlySet<TrustDomain>
  /** Trust domains of which the federation relationship came, changed or went. */
  readonly federation: ReadonlySet<TrustDomain>
  /** Agents whose record changed or went. */
  readonly agents: ReadonlySet<SpiffeId>
  readonly mesh: MeshChange
  /** Agents of whose endpoints the database has others now. */
  readonly reporters: ReadonlySet<SpiffeId>
  /** Whether a revocation came, changed or went. */
  readonly revocations: boolean
  /** Whether the active policies changed, or who is meant by the selectors in them. */
  readonly policies: boolean
}

export interface ReplicaDeps {
  readonly store: Datastore
  readonly trustDomain: TrustDomain
  readonly ownBundle: OwnBundle
  /** The journal of authorities or their keys changed. */
  readonly onAuthorities: () => Promise<void>
  /** Older views answer no agent; milliseconds. */
  readonly maxStaleMs: number
  readonly clock: Clock
  readonly log: Logger
}

/**
 * One server's memory of what the database holds: entries, agents, bundles, federation relationships, revocations, services and
 * policies. It follows the log and nothing else changes it, so that all replicas show the same, and a write is shown where it was made
 * like anywhere else.
 */
export class Replica {
  readonly registry: Registry
  readonly agents: AgentDirectory
  readonly services: ServiceIndex
  readonly revocations = new StandingRevocations()
  readonly policies = new PolicyIndex()
  readonly #deps: ReplicaDeps
  readonly #bundles = new Map<TrustDomain, Bundle>()
  readonly #federation = new Map<TrustDomain, FederationRelationship>()
  readonly #listeners = new Set<(change: ReplicaChange) => void>()
  #cursor: Cursor = { epoch: '', number: 0 }
  #follower: Follower | undefined

  private constructor (deps: ReplicaDeps) {
    this.#deps = deps
    this.registry = new Registry(deps.trustDomain)
    this.agents = new AgentDirectory({
      promote: async (id, serial) => {
        const agent = await deps.store.agents.promoteSerial(id, serial)
        await this.catchUp()
        return agent
      },
      catchUp: () => this.catchUp()
    })
    this.services = new ServiceIndex(id => this.agents.get(id)?.banned === false)
  }

  /** On return everything is in memory. */
  static async open (deps: ReplicaDeps): Promise<Replica> {
    const replica = new Replica(deps)
    const followed: Followed = {
      reload: () => replica.#reload(), apply: (state, cursor, anew) => replica.#take(state, cursor, anew)
    }
    replica.#follower = await Follower.open({ log: deps.store.log, followed, clock: deps.clock, logger: deps.log })
    return replica
  }

  /** Up to where the log is in memory. */
  get cursor (): Cursor { return this.#cursor }
  /** Whether changes of other replicas arrive at once; otherwise by polling. */
  get nudged (): boolean { return this.#following.nudged }
  get staleMs (): number { return this.#deps.store.kind === 'sqlite' ? 0 : this.#following.staleMs }

  /** What `staleMs` may be at the most for agents to be answered. */
  get maxStaleMs (): number { return this.#deps.maxStaleMs }

  catchUp (): Promise<void> { return this.#following.catchUp() }
  run (signal: AbortSignal): Promise<void> { return this.#following.run(signal) }

  /** @throws {SpiffeError} `replica_stale` when this view may lack a ban */
  requireFresh (): void {
    const { staleMs } = this
    if (staleMs <= this.#deps.maxStaleMs) return
    throw new SpiffeError('replica_stale', `this replica has not seen the database for ${Math.round(staleMs / 1000)} s`)
  }

  /** Relationships as stored; those of the configuration are not among them. */
  get federation (): ReadonlyMap<TrustDomain, FederationRelationship> { return this.#federation }

  /** Of all other trust domains. */
  get federatedBundles (): Iterable<Bundle> { return this.#bundles.values() }

  /** A federated bundle; the own one is the certificate authority's. */
  bundleOf (trustDomain: TrustDomain): Bundle | undefined { return this.#bundles.get(trustDomain) }

  /** @returns stops it */
  onChange (listener: (change: ReplicaChange) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  get #following (): Follower {
    if (this.#follower === undefined) throw new Error('the replica is not open yet')
    return this.#follower
  }

  async #reload (): Promise<ChangedState> {
    const { store } = this.#deps
    const gone = new Set(this.registry.ids())
    const entries = new Map<string, Entry | undefined>()
    for await (const entry of store.entries.all()) {
      gone.delete(entry.id)
      if (!isSame(this.registry.get(entry.id), entry)) entries.set(entry.id, entry)
    }
    for (const id of gone) entries.set(id, undefined)
    const agents = new Map<SpiffeId, Agent | undefined>([...this.registry.agentIds()].map(id => [id, undefined]))
    for await (const agent of store.agents.all()) agents.set(agent.id, agent)
    const bundles = new Map<TrustDomain, Bundle | undefined>([...this.#bundles.keys()].map(domain => [domain, undefined]))
    for (const bundle of (await store.bundles.list(everything)).bundles) bundles.set(bundle.trustDomain, bundle)
    const federation = new Map<TrustDomain, FederationRelationship | undefined>()
    for (const domain of this.#federation.keys()) federation.set(domain, undefined)
    for (const one of (await store.federation.list(everything)).relationships) federation.set(one.trustDomain, one)
    const services = await differencesOf(this.services.services, store.services.all())
    const endpoints = await differencesOf(this.services.stored, store.endpoints.all())
    const revocations = await differencesOf(this.revocations.all, await store.revocations.list())
    const policies = { active: await store.policies.active() }
    return { entries, agents, bundles, federation, services, endpoints, revocations, authorities: true, policies }
  }

  async #take (state: ChangedState, cursor: Cursor, anew: boolean): Promise<void> {
    const { entries, agents, bundles, federation, services, endpoints, revocations, authorities, policies } = state
    for (const [trustDomain, bundle] of bundles) this.#showBundle(trustDomain, bundle, anew)
    for (const [trustDomain, relationship] of federation) {
      if (relationship === undefined) this.#federation.delete(trustDomain)
      else this.#federation.set(trustDomain, relationship)
    }
    for (const [id, agent] of agents) {
      if (agent === undefined) this.agents.remove(id)
      else this.agents.put(agent)
    }
    this.revocations.apply(revocations)
    this.policies.takeEntries(entries, id => this.registry.get(id))
    const touched = this.registry.apply({ entries, agents, revokedIds: this.revocations.ids })
    if (policies !== undefined) this.policies.takeActive(policies.active, () => this.registry.all())
    const reporters = reportersOf(endpoints, this.services)
    const mesh = this.services.apply({ services, endpoints, agents: agents.keys() })
    this.#cursor = cursor
    const change = {
      cursor, touched, bundles: new Set(bundles.keys()), federation: new Set(federation.keys()), agents: new Set(agents.keys()),
      revocations: revocations.size > 0, mesh, reporters, policies: this.policies.show()
    }
    for (const listener of this.#listeners) listener(change)
    // Last: what is signed from now on verifies by what is shown already; and if this fails and all is taken over once more, whom the
    // change touched has been told.
    if (authorities) await this.#deps.onAuthorities()
  }

  #showBundle (trustDomain: TrustDomain, bundle: Bundle | undefined, anew: boolean): void {
    if (trustDomain === this.#deps.trustDomain) {
      if (bundle === undefined) return
      if (anew) this.#deps.ownBundle.reset(bundle)
      else this.#deps.ownBundle.show(bundle)
    } else if (bundle === undefined) {
      this.#bundles.delete(trustDomain)
    } else {
      this.#bundles.set(trustDomain, bundle)
    }
  }
}

/** What differs from what is shown; what does not stays the object it was. */
async function differencesOf<T extends { readonly id: string }> (
  shown: ReadonlyMap<string, T>, stored: AsyncIterable<T> | Iterable<T>
): Promise<ReadonlyMap<string, T | undefined>> {
  const differences = new Map<string, T | undefined>([...shown.keys()].map(id => [id, undefined]))
  for await (const row of stored) {
    if (isDeepStrictEqual(shown.get(row.id), row)) differences.delete(row.id)
    else differences.set(row.id, row)
  }
  return differences
}

function reportersOf (endpoints: ReadonlyMap<string, ServiceEndpoint | undefined>, { stored }: ServiceIndex): ReadonlySet<SpiffeId> {
  return new Set([...endpoints].flatMap(([id, endpoint]) => (endpoint ?? stored.get(id))?.agentId ?? []))
}

/** Field by field: a database that was set back gives the same revision number to another change. */
function isSame (a: Entry | undefined, b: Entry): boolean {
  if (a === undefined) return false
  for (const name of Object.keys(b) as Array<keyof Entry>) {
    if (a[name] !== b[name] && !isDeepStrictEqual(a[name], b[name])) return false
  }
  return true
}

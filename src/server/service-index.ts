import type { ServiceEndpoint } from '../spiffe/service-endpoint.ts'
import type { Service } from '../spiffe/service.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'

/** Ids of services and endpoints that are not to agents what they were: new, changed or gone. */
export interface MeshChange {
  readonly services: ReadonlySet<string>
  readonly endpoints: ReadonlySet<string>
}

export interface StoredMeshChange {
  /** By id; `undefined`: removed. */
  readonly services: ReadonlyMap<string, Service | undefined>
  readonly endpoints: ReadonlyMap<string, ServiceEndpoint | undefined>
  /** Agents whose record changed or went. */
  readonly agents: Iterable<SpiffeId>
}

/**
 * All services and endpoints in memory. Agents are told of those endpoints whose agent stands and whose SPIFFE ID serves some service:
 * those of an agent that is banned or evicted are out of sight with the very change that says so.
 */
export class ServiceIndex {
  readonly #stands: (agent: SpiffeId) => boolean
  readonly #services = new Map<string, Service>()
  /** How many services each ID serves. */
  readonly #serving = new Map<SpiffeId, number>()
  readonly #stored = new Map<string, ServiceEndpoint>()
  readonly #byAgent = new Groups()
  readonly #bySpiffeId = new Groups()
  readonly #shown = new Map<string, ServiceEndpoint>()
  #revision = 0

  /** @param stands whether an agent is attested and not banned */
  constructor (stands: (agent: SpiffeId) => boolean) { this.#stands = stands }

  /** By id. */
  get services (): ReadonlyMap<string, Service> { return this.#services }
  /** What agents are told of, by id. */
  get endpoints (): ReadonlyMap<string, ServiceEndpoint> { return this.#shown }
  /** Whatever was reported, by id. */
  get stored (): ReadonlyMap<string, ServiceEndpoint> { return this.#stored }
  /** Grows with each change that agents are told of. */
  get revision (): number { return this.#revision }

  /** Agents that have reported endpoints. */
  reporters (): Iterable<SpiffeId> { return this.#byAgent.keys() }

  /** What an agent has reported, shown or not. */
  reportedBy (agent: SpiffeId): ServiceEndpoint[] { return this.#byAgent.of(agent).map(id => this.#stored.get(id) as ServiceEndpoint) }

  /** Those behind a service that agents are told of. */
  endpointsOf ({ spiffeIds }: Pick<Service, 'spiffeIds'>): ServiceEndpoint[] {
    return spiffeIds.flatMap(spiffeId => this.#bySpiffeId.of(spiffeId).flatMap(id => this.#shown.get(id) ?? []))
  }

  /** Takes a change over. @returns what of it agents must be told */
  apply ({ services, endpoints, agents }: StoredMeshChange): MeshChange {
    const looked = new Set(endpoints.keys())
    const look = (ids: Iterable<string>) => { for (const id of ids) looked.add(id) }
    const changed = new Set<string>()
    for (const [id, service] of services) {
      const before = this.#services.get(id)
      if (before === service) continue
      changed.add(id)
      for (const spiffeId of before?.spiffeIds ?? []) if (this.#count(spiffeId, -1)) look(this.#bySpiffeId.of(spiffeId))
      for (const spiffeId of service?.spiffeIds ?? []) if (this.#count(spiffeId, 1)) look(this.#bySpiffeId.of(spiffeId))
      if (service === undefined) this.#services.delete(id)
      else this.#services.set(id, service)
    }
    for (const [id, endpoint] of endpoints) this.#store(id, endpoint)
    for (const agent of agents) look(this.#byAgent.of(agent))
    const shown = new Set([...looked].filter(id => this.#show(id)))
    if (changed.size + shown.size > 0) this.#revision++
    return { services: changed, endpoints: shown }
  }

  /** @returns whether the ID begins or ceases to serve */
  #count (spiffeId: SpiffeId, by: 1 | -1): boolean {
    const count = (this.#serving.get(spiffeId) ?? 0) + by
    if (count === 0) this.#serving.delete(spiffeId)
    else this.#serving.set(spiffeId, count)
    return count === (by === 1 ? 1 : 0)
  }

  #store (id: string, endpoint: ServiceEndpoint | undefined): void {
    const before = this.#stored.get(id)
    if (before !== undefined) {
      this.#byAgent.remove(before.agentId, id)
      this.#bySpiffeId.remove(before.spiffeId, id)
      this.#stored.delete(id)
    }
    if (endpoint === undefined) return
    this.#stored.set(id, endpoint)
    this.#byAgent.add(endpoint.agentId, id)
    this.#bySpiffeId.add(endpoint.spiffeId, id)
  }

  /** Brings what agents are told of one endpoint up to date. @returns whether that changed it */
  #show (id: string): boolean {
    const before = this.#shown.get(id)
    const endpoint = this.#stored.get(id)
    const after = endpoint !== undefined && this.#serving.has(endpoint.spiffeId) && this.#stands(endpoint.agentId) ? endpoint : undefined
    if (after === before) return false
    if (after === undefined) this.#shown.delete(id)
    else this.#shown.set(id, after)
    return true
  }
}

/** Ids of endpoints by what they have in common. */
class Groups {
  readonly #groups = new Map<SpiffeId, Set<string>>()

  keys (): Iterable<SpiffeId> { return this.#groups.keys() }
  of (key: SpiffeId): string[] { return [...this.#groups.get(key) ?? []] }

  add (key: SpiffeId, id: string): void {
    const group = this.#groups.get(key)
    if (group === undefined) this.#groups.set(key, new Set([id]))
    else group.add(id)
  }

  remove (key: SpiffeId, id: string): void {
    const group = this.#groups.get(key)
    group?.delete(id)
    if (group?.size === 0) this.#groups.delete(key)
  }
}

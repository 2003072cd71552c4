import { isDeepStrictEqual } from 'node:util'
import type { LocalEndpoint, ServiceEndpoint } from '../spiffe/service-endpoint.ts'
import type { Service } from '../spiffe/service.ts'
import { Watchable } from '../runtime/watchable.ts'

/** The trust domain's services, whole, as far as this node knows. */
export interface NodeServicesState {
  /** By name. */
  readonly services: ReadonlyMap<string, Service>
  /** Those whose SPIFFE ID serves one of the services, by id. Static ones are in their service. */
  readonly endpoints: ReadonlyMap<string, ServiceEndpoint>
  /** Grows with each change. */
  readonly revision: number
}

/** What a server pushed. */
export interface ServicesStep {
  /** What is not named is gone. */
  readonly snapshot: boolean
  readonly services: ReadonlyMap<string, Service>
  readonly removedServiceIds: ReadonlySet<string>
  readonly endpoints: ReadonlyMap<string, ServiceEndpoint>
  readonly removedEndpointIds: ReadonlySet<string>
}

/** What an agent exchanges with its server so that its node can call and be called. */
export interface NodeMesh {
  readonly services: NodeServices
  /** Whole states: every workload of this node that lives and has an identity. At most `mostLocalEndpoints`. */
  readonly localEndpoints: Watchable<readonly LocalEndpoint[]>
  /** Of the node's proxy, where the agent is its control plane. */
  proxy?: ProxyProgress
}

/** What the node's proxy has taken over. */
export interface ProxyProgress {
  /** Returns once every proxy that is connected has answered the newest state, and without any at once; or when the signal aborts. */
  settled (signal: AbortSignal): Promise<void>
  /** Names of resources that it refused, those of SVIDs among them. */
  readonly refusedIds: ReadonlySet<string>
}

export function openNodeMesh (): NodeMesh {
  return { services: new NodeServices(), localEndpoints: new Watchable<readonly LocalEndpoint[]>([]) }
}

/**
 * The services a node can call and the endpoints behind them. Follows the server as entries do; without one it stays as it was.
 */
export class NodeServices {
  readonly #shown = new Watchable<NodeServicesState>({ services: new Map(), endpoints: new Map(), revision: 0 })
  #byId: ReadonlyMap<string, Service> = new Map()
  #synced = false

  /** Whether the services are known yet. */
  get synced (): boolean { return this.#synced }
  /** The same object until something changes. */
  get state (): NodeServicesState { return this.#shown.value }

  /** Whole states: the current one first, empty with revision 0 until the services are known, then the newest. */
  watch (signal: AbortSignal): AsyncGenerator<NodeServicesState, void, undefined> { return this.#shown.watch(signal) }

  /** Shows what an earlier run knew. */
  restore (services: readonly Service[], endpoints: readonly ServiceEndpoint[]): void {
    this.#show(new Map(services.map(service => [service.id, service])), new Map(endpoints.map(endpoint => [endpoint.id, endpoint])))
  }

  /** Takes a step over as a whole. One that says nothing new shows nothing new. */
  take (step: ServicesStep): void {
    const services = overlay(this.#byId, step.services, step.removedServiceIds, step.snapshot)
    const endpoints = overlay(this.state.endpoints, step.endpoints, step.removedEndpointIds, step.snapshot)
    if (!this.#synced || services !== this.#byId || endpoints !== this.state.endpoints) this.#show(services, endpoints)
  }

  /** What is known is of no use any more. */
  forget (): void {
    this.#show(new Map(), new Map())
    this.#synced = false
  }

  #show (byId: ReadonlyMap<string, Service>, endpoints: ReadonlyMap<string, ServiceEndpoint>): void {
    const { revision } = this.state
    const services = byId === this.#byId ? this.state.services : new Map([...byId.values()].map(service => [service.name, service]))
    this.#byId = byId
    this.#synced = true
    this.#shown.set({ services, endpoints, revision: revision + 1 })
  }
}

/** Gives `known` itself when nothing changed. */
function overlay<T extends object> (
  known: ReadonlyMap<string, T>, changed: ReadonlyMap<string, T>, removed: ReadonlySet<string>, whole: boolean
): ReadonlyMap<string, T> {
  const after = new Map(whole ? [] : known)
  for (const id of removed) after.delete(id)
  for (const [id, value] of changed) {
    const before = known.get(id)
    after.set(id, isDeepStrictEqual(before, value) ? before as T : value)
  }
  const same = after.size === known.size && [...after].every(([id, value]) => known.get(id) === value)
  return same ? known : after
}

import type { Clock } from '../runtime/clock.ts'
import { nap } from '../runtime/nap.ts'
import { Watchable } from '../runtime/watchable.ts'
import type { Found, ResourceView } from '../sds/secret-resource.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { trustDomainOf } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { WorkloadIdentity } from '../spiffe/svid.ts'
import { secretTypeUrl } from '../sds/encode-secret.ts'
import type { AdsViews } from './ads/ads-stream.ts'
import { type MeshSecrets, openMeshSecrets } from './ads/mesh-secrets.ts'
import type { MeshEndpoint, MeshPolicies, MeshService, MeshSettings, MeshState, Revoked } from './mesh-state.ts'
import { filterType, routesType } from './resources/authorization.ts'
import type { EpochStore } from './resources/connection-epochs.ts'
import { clusterType, endpointType, listenerType, openMeshResources } from './resources/mesh-resources.ts'
import type { Resource } from './resources/resource.ts'
import type { LocalWorkloads, WorkloadRegistry } from './workloads/workload-registry.ts'

/** What the server says of the mesh. */
export interface MeshDirectory {
  readonly services: readonly MeshService[]
  readonly endpoints: readonly MeshEndpoint[]
}

export interface MeshNodeDeps {
  readonly settings: MeshSettings
  readonly registry: WorkloadRegistry
  /** With no selectors: the own bundle. */
  readonly own: (signal: AbortSignal) => AsyncIterable<WorkloadIdentity>
  readonly directory: (signal: AbortSignal) => AsyncIterable<MeshDirectory>
  readonly revoked: (signal: AbortSignal) => AsyncIterable<Revoked>
  readonly policies: (signal: AbortSignal) => AsyncIterable<MeshPolicies>
  /** Secrets of connections of the host's own processes, where these are workloads too. */
  readonly connections?: { find (name: string): Found } | undefined
  /** What must be known of connections that outlive the agent. */
  readonly epochs: EpochStore
  readonly clock: Clock
}

const nothingYet: MeshDirectory = { services: [], endpoints: [] }
/** For the server to say what is in force. On a busy machine that takes its time, and what was said before holds meanwhile. */
const serverPatienceMs = 60_000
/** From then on, for what was here when the agent started: one workload whose SVID cannot be had must not hold up the others for longer. */
const patienceMs = 20_000

/** Puts together what this node's proxy must be told, from everything that it depends on. */
export class MeshNode {
  readonly #deps: MeshNodeDeps
  readonly #views = new Watchable<AdsViews | undefined>(undefined)
  readonly #resourcesOf: ReturnType<typeof openMeshResources>
  readonly #secrets: MeshSecrets
  #own: Bundle | undefined
  #local: LocalWorkloads = { workloads: [], identities: new Map() }
  #directory: MeshDirectory | undefined
  /** Trust domains whose members serve something. */
  #serving: ReadonlySet<TrustDomain> = new Set()
  #complete = false
  readonly #told = Promise.withResolvers<void>()
  #policies: MeshPolicies = { kind: 'unknown' }
  #revoked: Revoked = { digests: new Set(), ids: new Set() }

  constructor (deps: MeshNodeDeps) {
    this.#deps = deps
    this.#resourcesOf = openMeshResources(deps.settings, deps.epochs)
    this.#secrets = openMeshSecrets(deps.connections)
  }

  /** The newest; `undefined` until there is a first. */
  get views (): AdsViews | undefined { return this.#views.value }

  /** What the server said last. */
  get directory (): MeshDirectory { return this.#directory ?? nothingYet }

  /** Whole states, the first once it is known who is here and what the server said of services. */
  async * watch (signal: AbortSignal): AsyncGenerator<AdsViews, void, undefined> {
    for await (const views of this.#views.watch(signal)) if (views !== undefined) yield views
  }

  /** Follows its sources until the signal aborts. */
  tasks (): ((signal: AbortSignal) => Promise<void>)[] {
    const { registry, own, directory, revoked, policies, clock } = this.#deps
    return [
      async signal => {
        await nap(clock, serverPatienceMs, this.#told.promise, signal)
        await clock.sleep(patienceMs, signal)
        this.#complete = true
        this.#publish()
      },
      signal => this.#follow(own(signal), ({ bundle }) => { this.#own = bundle }),
      signal => this.#follow(registry.watch(signal), local => { this.#local = local }),
      signal => this.#follow(directory(signal), found => {
        this.#directory = found
        this.#serving = new Set(found.services.flatMap(({ spiffeIds }) => spiffeIds.map(trustDomainOf)))
      }),
      signal => this.#follow(revoked(signal), found => { this.#revoked = found }),
      signal => this.#follow(policies(signal), found => {
        this.#policies = found
        if (found.kind !== 'unknown') this.#told.resolve()
      })
    ]
  }

  /** What a name means has changed without any of the sources. */
  refresh (): void { this.#publish() }

  async #follow<T> (states: AsyncIterable<T>, take: (state: T) => void): Promise<void> {
    for await (const state of states) {
      take(state)
      this.#publish()
    }
  }

  #publish (): void {
    if (this.#own === undefined) return
    // A proxy that an earlier agent left has all of it: half a state would take the other half away.
    this.#complete ||= this.#directory !== undefined && this.#policies.kind !== 'unknown' && this.#deps.registry.complete
    if (!this.#complete) return
    const { workloads, identities } = this.#local
    const state: MeshState = { workloads, ...this.directory, revoked: this.#revoked, policies: this.#policies }
    const resources = this.#resourcesOf(state)
    const of = (typeUrl: string): [string, ResourceView] => [typeUrl, viewOf(resources.get(typeUrl) ?? new Map())]
    // Rules before listeners: a chain that takes the place of another must not begin with the rules of that.
    this.#views.set(new Map([
      of(clusterType), of(endpointType), of(filterType), of(routesType), of(listenerType),
      [secretTypeUrl, this.#secrets.view(this.#own, identities, this.#serving)]
    ]))
  }
}

function viewOf (resources: ReadonlyMap<string, Resource>): ResourceView {
  return {
    allNames: new Set(resources.keys()),
    find (name) {
      const found = resources.get(name)
      if (found === undefined) return { kind: 'absent' }
      return { kind: 'usable', resource: { name, version: found.version, value: found.value, expiresAt: undefined } }
    }
  }
}

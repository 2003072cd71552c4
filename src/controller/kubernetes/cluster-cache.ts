import { runTasks } from '../../runtime/tasks.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { ServicesOfPods, type ClusterView } from '../desired/cluster-view.ts'
import { type ClusterFederatedTrustDomain, readClusterFederatedTrustDomain } from '../resources/cluster-federated-trust-domain.ts'
import { type ClusterSpiffeId, readClusterSpiffeId } from '../resources/cluster-spiffe-id.ts'
import { type ClusterStaticEntry, readClusterStaticEntry } from '../resources/cluster-static-entry.ts'
import { type ResourceKind, resourcePaths } from '../resources/resource.ts'
import {
  type NamespaceFacts, namespaceFactsOf, type NodeFacts, nodeFactsOf, type PodFacts, podFactsOf, type SliceFacts, sliceFactsOf
} from './cluster-facts.ts'
import type { KubeObject } from './kube-object.ts'
import { Reflector, type ReflectorDeps } from './reflector.ts'

/** What changed, as far as entries depend on it. */
export interface ClusterListener {
  podChanged (uid: string): void
  /** What entries of many pods depend on: a resource, a namespace, a node. */
  clusterChanged (): void
  federationChanged (): void
}

/** Of one kind, whichever. */
interface Followed {
  readonly reflector: Reflector<unknown>
  readonly onChange: (before: unknown, after: unknown) => void
}

/** The cluster in memory, followed by watches: all that `ClusterView` tells, and no more of each object than that needs. */
export class ClusterCache implements ClusterView {
  readonly #pods: Reflector<PodFacts>
  readonly #nodes: Reflector<NodeFacts>
  readonly #namespaces: Reflector<NamespaceFacts>
  readonly #slices: Reflector<SliceFacts>
  readonly #spiffeIds: Reflector<ClusterSpiffeId>
  readonly #staticEntries: Reflector<ClusterStaticEntry>
  readonly #federated: Reflector<ClusterFederatedTrustDomain>
  readonly #services = new ServicesOfPods()
  readonly #nodesByName = new Map<string, NodeFacts>()
  readonly #namespacesByName = new Map<string, NamespaceFacts>()
  readonly #podsByNode = new Map<string, Set<string>>()
  readonly #active: readonly Followed[]
  readonly #listeners: ClusterListener[] = []

  /** @param kinds of resources; others are taken as if there were none */
  constructor (trustDomain: TrustDomain, kinds: ReadonlySet<ResourceKind>, deps: ReflectorDeps) {
    const reflect = <T>(kind: string, path: string, keep: (object: KubeObject) => T) => new Reflector({ kind, path, keep }, deps)
    this.#pods = reflect('pods', '/api/v1/pods', podFactsOf)
    this.#nodes = reflect('nodes', '/api/v1/nodes', nodeFactsOf)
    this.#namespaces = reflect('namespaces', '/api/v1/namespaces', namespaceFactsOf)
    this.#slices = reflect('endpointslices', '/apis/discovery.k8s.io/v1/endpointslices', sliceFactsOf)
    this.#spiffeIds = reflect('clusterspiffeids', resourcePaths.ClusterSPIFFEID, readClusterSpiffeId)
    this.#staticEntries = reflect('clusterstaticentries', resourcePaths.ClusterStaticEntry, readClusterStaticEntry)
    this.#federated = reflect('clusterfederatedtrustdomains', resourcePaths.ClusterFederatedTrustDomain,
      object => readClusterFederatedTrustDomain(object, trustDomain))
    const tell = (how: (listener: ClusterListener) => void) => { for (const listener of this.#listeners) how(listener) }
    const follow = <T>(reflector: Reflector<T>, onChange: (before: T | undefined, after: T | undefined) => void) =>
      ({ reflector, onChange }) as unknown as Followed
    const everything = () => tell(listener => listener.clusterChanged())
    const podChanged = (uid: string) => tell(listener => listener.podChanged(uid))
    const ofPods = [
      follow(this.#nodes, (before, after) => {
        this.#index(this.#nodesByName, before, after)
        for (const uid of this.#podsByNode.get((after ?? before)?.name ?? '') ?? []) podChanged(uid)
      }),
      follow(this.#namespaces, (before, after) => {
        this.#index(this.#namespacesByName, before, after)
        everything()
      }),
      follow(this.#slices, (before, after) => { for (const uid of this.#services.change(before, after)) podChanged(uid) }),
      follow(this.#spiffeIds, everything),
      follow(this.#pods, (before, after) => {
        if (before?.nodeName !== undefined) this.#podsByNode.get(before.nodeName)?.delete(before.uid)
        if (after?.nodeName !== undefined) {
          const uids = this.#podsByNode.get(after.nodeName) ?? new Set()
          this.#podsByNode.set(after.nodeName, uids.add(after.uid))
        }
        podChanged((after ?? before)?.uid ?? '')
      })
    ]
    this.#active = [
      ...kinds.has('ClusterSPIFFEID') ? ofPods : [],
      ...kinds.has('ClusterStaticEntry') ? [follow(this.#staticEntries, everything)] : [],
      ...kinds.has('ClusterFederatedTrustDomain')
        ? [follow(this.#federated, () => tell(listener => listener.federationChanged()))]
        : []
    ]
  }

  listen (listener: ClusterListener): void { this.#listeners.push(listener) }

  get isSynced (): boolean { return this.#active.every(({ reflector }) => reflector.isSynced) }
  /** Settles once everything was read: until then nothing follows from what is missing. */
  async synced (): Promise<void> { await Promise.all(this.#active.map(({ reflector }) => reflector.synced)) }
  /** Kinds of objects that were never read. */
  get unread (): readonly string[] {
    return this.#active.flatMap(({ reflector }) => reflector.isSynced ? [] : [reflector.kind])
  }

  * sizes (): Generator<readonly [number, { readonly kind: string }], void, undefined> {
    for (const { reflector } of this.#active) yield [reflector.size, { kind: reflector.kind }]
  }

  /** Follows until the signal aborts. */
  async run (signal: AbortSignal): Promise<void> {
    await runTasks(signal, this.#active.map(({ reflector, onChange }) => signal => reflector.run(onChange, signal)))
  }

  /** Reads everything once. @throws {SpiffeError} `kubernetes_unreachable` */
  async readAll (signal: AbortSignal): Promise<void> {
    await Promise.all(this.#active.map(({ reflector, onChange }) => reflector.readAll(onChange, signal)))
  }

  pods (): Iterable<PodFacts> { return this.#pods.values() }
  pod (uid: string): PodFacts | undefined { return this.#pods.get(uid) }
  node (name: string): NodeFacts | undefined { return this.#nodesByName.get(name) }
  namespace (name: string): NamespaceFacts | undefined { return this.#namespacesByName.get(name) }
  namespaces (): Iterable<NamespaceFacts> { return this.#namespaces.values() }
  services (pod: PodFacts): readonly string[] { return this.#services.of(pod) }
  spiffeIds (): readonly ClusterSpiffeId[] { return [...this.#spiffeIds.values()] }
  staticEntries (): readonly ClusterStaticEntry[] { return [...this.#staticEntries.values()] }
  federatedTrustDomains (): readonly ClusterFederatedTrustDomain[] { return [...this.#federated.values()] }

  /** A new object with an old one's name may come before the old one goes. */
  #index<T extends { readonly name: string }> (index: Map<string, T>, before: T | undefined, after: T | undefined): void {
    if (after !== undefined) index.set(after.name, after)
    else if (before !== undefined && index.get(before.name) === before) index.delete(before.name)
  }
}

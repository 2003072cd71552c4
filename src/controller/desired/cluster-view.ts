import type { NamespaceFacts, NodeFacts, PodFacts, SliceFacts } from '../kubernetes/cluster-facts.ts'
import type { ClusterFederatedTrustDomain } from '../resources/cluster-federated-trust-domain.ts'
import type { ClusterSpiffeId } from '../resources/cluster-spiffe-id.ts'
import type { ClusterStaticEntry } from '../resources/cluster-static-entry.ts'

/** A cluster at one moment, as far as entries depend on it. */
export interface ClusterView {
  pods (): Iterable<PodFacts>
  pod (uid: string): PodFacts | undefined
  node (name: string): NodeFacts | undefined
  namespace (name: string): NamespaceFacts | undefined
  namespaces (): Iterable<NamespaceFacts>
  /** Names of the services that the pod is behind; sorted. */
  services (pod: PodFacts): readonly string[]
  spiffeIds (): readonly ClusterSpiffeId[]
  staticEntries (): readonly ClusterStaticEntry[]
  federatedTrustDomains (): readonly ClusterFederatedTrustDomain[]
}

/**
 * Services by the pods behind them. A slice tells of pods of its own namespace alone: who may write slices in one names no pod of another.
 */
export class ServicesOfPods {
  /** By namespace and UID; how many slices say so. */
  readonly #byPod = new Map<string, Map<string, number>>()

  /** @returns the pods whose services may have changed */
  change (before: SliceFacts | undefined, after: SliceFacts | undefined): ReadonlySet<string> {
    for (const uid of namedBy(before)) this.#count(uid, before as SliceFacts, -1)
    for (const uid of namedBy(after)) this.#count(uid, after as SliceFacts, 1)
    return new Set([...namedBy(before), ...namedBy(after)])
  }

  of (pod: Pick<PodFacts, 'namespace' | 'uid'>): readonly string[] { return [...this.#byPod.get(keyOf(pod))?.keys() ?? []].toSorted() }

  #count (uid: string, { namespace, service }: SliceFacts, by: number): void {
    const key = keyOf({ namespace, uid })
    const services = this.#byPod.get(key) ?? new Map<string, number>()
    const count = (services.get(service) ?? 0) + by
    if (count > 0) services.set(service, count)
    else services.delete(service)
    if (services.size > 0) this.#byPod.set(key, services)
    else this.#byPod.delete(key)
  }
}

function keyOf ({ namespace, uid }: Pick<PodFacts, 'namespace' | 'uid'>): string { return `${namespace}/${uid}` }

function namedBy (slice: SliceFacts | undefined): readonly string[] {
  return slice === undefined || slice.service === '' ? [] : slice.podUids
}

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

/** Services by the UIDs of the pods behind them. */
export class ServicesOfPods {
  /** How many slices say so. */
  readonly #byPod = new Map<string, Map<string, number>>()

  /** @returns the pods whose services may have changed */
  change (before: SliceFacts | undefined, after: SliceFacts | undefined): ReadonlySet<string> {
    for (const uid of namedBy(before)) this.#count(uid, before?.service as string, -1)
    for (const uid of namedBy(after)) this.#count(uid, after?.service as string, 1)
    return new Set([...namedBy(before), ...namedBy(after)])
  }

  of (podUid: string): readonly string[] { return [...this.#byPod.get(podUid)?.keys() ?? []].toSorted() }

  #count (uid: string, service: string, by: number): void {
    const services = this.#byPod.get(uid) ?? new Map<string, number>()
    const count = (services.get(service) ?? 0) + by
    if (count > 0) services.set(service, count)
    else services.delete(service)
    if (services.size > 0) this.#byPod.set(uid, services)
    else this.#byPod.delete(uid)
  }
}

function namedBy (slice: SliceFacts | undefined): readonly string[] {
  return slice === undefined || slice.service === '' ? [] : slice.podUids
}

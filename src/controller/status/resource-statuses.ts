import type { ClusterView } from '../desired/cluster-view.ts'
import type { DesiredState } from '../desired/desired-state.ts'
import type { FederationState } from '../reconcile/reconcile-federation.ts'
import type { ClusterFederatedTrustDomain } from '../resources/cluster-federated-trust-domain.ts'
import type { Resource } from '../resources/resource.ts'
import type { Readiness, Saying } from './conditions.ts'
import { UseTally, type UseView } from './use-saying.ts'

/** What is to be told about a resource: the fields that spire-controller-manager has, and whether it is ready. */
export interface ResourceStatus {
  readonly resource: Resource<unknown>
  readonly fields: Readonly<Record<string, unknown>>
  readonly readiness: Readiness
  /** Whether its entries are served; `undefined`: it has none by its kind. */
  readonly use?: Saying | undefined
}

/** What became of declared entries on the server. */
export interface EntryResults {
  /** Of the own entry on the server with this key. */
  idOf (key: string): string | undefined
  failureOf (key: string): string | undefined
  foreignOf (key: string): string | undefined
}

interface Counts {
  toSet: number
  masked: number
  failed: number
  set: number
  readonly use: UseTally
  maskedBy?: string
  failure?: string
  foreign?: string
}

function noCounts (): Counts { return { toSet: 0, masked: 0, failed: 0, set: 0, use: new UseTally() } }

const ready: Readiness = { ready: true, reason: 'Reconciled', message: '' }

/** Of all resources of this controller's class. */
export function * resourceStatuses (
  desired: DesiredState, view: ClusterView, results: EntryResults, federation: FederationState,
  cares: (resource: Resource<unknown>) => boolean, uses: UseView
): Generator<ResourceStatus, void, undefined> {
  const counted = countEntries(desired, results, uses)
  const countsOf = ({ uid }: Resource<unknown>): Counts => counted.get(uid) ?? noCounts()
  for (const resource of view.spiffeIds().filter(cares)) {
    const counts = countsOf(resource)
    const { stats, reasons } = desired.statsOf(resource, view)
    yield {
      resource,
      fields: { stats: { ...stats, entriesMasked: counts.masked, entriesToSet: counts.toSet, entryFailures: counts.failed } },
      readiness: malformed(resource) ?? refused(counts) ?? (reasons.length > 0
        ? { ready: false, reason: 'RenderFailed', message: `${stats.podEntryRenderFailures} pods get no entry; ${reasons.join('; ')}` }
        : ready),
      use: counts.use.saying(uses)
    }
  }
  for (const resource of view.staticEntries().filter(cares)) {
    const counts = countsOf(resource)
    const failure = desired.staticFailures.get(resource.uid)
    yield {
      resource,
      fields: { rendered: failure === undefined, masked: counts.masked > 0, set: counts.set > 0 },
      readiness: failure === undefined
        ? refused(counts) ?? masked(counts) ?? ready
        : { ready: false, reason: 'Malformed', message: failure },
      use: counts.use.saying(uses)
    }
  }
  for (const resource of view.federatedTrustDomains().filter(cares)) {
    yield { resource, fields: {}, readiness: malformed(resource) ?? federationReadiness(resource, federation) }
  }
}

function countEntries (desired: DesiredState, results: EntryResults, uses: UseView): ReadonlyMap<string, Counts> {
  const counted = new Map<string, Counts>()
  const of = (uid: string) => {
    const counts = counted.get(uid) ?? noCounts()
    counted.set(uid, counts)
    return counts
  }
  for (const key of desired.keys()) {
    const [first, ...others] = desired.of(key)
    for (const { by } of others) {
      const counts = of(by.uid)
      counts.masked++
      counts.maskedBy ??= `${first?.by.kind} ${first?.by.name}`
    }
    if (first === undefined) continue
    const counts = of(first.by.uid)
    const foreign = results.foreignOf(key)
    const failure = results.failureOf(key)
    counts.toSet++
    if (foreign !== undefined || failure !== undefined) counts.failed++
    if (foreign !== undefined) counts.foreign ??= `${first.entry.spiffeId}: entry ${foreign} is somebody else's, and is left as it is`
    if (failure !== undefined) counts.failure ??= `${first.entry.spiffeId}: ${failure}`
    const id = failure === undefined ? results.idOf(key) : undefined
    if (id !== undefined) counts.set++
    counts.use.add(id === undefined ? undefined : { key, id, parentId: first.entry.parentId }, uses)
  }
  return counted
}

function malformed ({ spec }: Resource<unknown>): Readiness | undefined {
  return 'error' in spec ? { ready: false, reason: 'Malformed', message: spec.error.message } : undefined
}

function refused ({ failed, failure, foreign }: Counts): Readiness | undefined {
  if (failure !== undefined) return { ready: false, reason: 'Refused', message: `${failed} entries are not set; ${failure}` }
  return foreign === undefined ? undefined : { ready: false, reason: 'Foreign', message: `${failed} entries are not set; ${foreign}` }
}

function masked ({ toSet, maskedBy }: Counts): Readiness | undefined {
  return toSet > 0 || maskedBy === undefined ? undefined : { ready: false, reason: 'Masked', message: `${maskedBy} has the same entry` }
}

function federationReadiness (resource: ClusterFederatedTrustDomain, { masked, foreign, failures }: FederationState): Readiness {
  if ('error' in resource.spec) return ready
  const { trustDomain } = resource.spec.value.relationship
  const older = masked.get(resource.uid)
  if (older !== undefined) return { ready: false, reason: 'Masked', message: `ClusterFederatedTrustDomain ${older} is for ${trustDomain}` }
  const failure = failures.get(trustDomain)
  if (failure !== undefined) return { ready: false, reason: 'Refused', message: failure }
  if (!foreign.has(trustDomain)) return ready
  return { ready: false, reason: 'Foreign', message: `the relationship with ${trustDomain} is somebody else's, and is left as it is` }
}

import type { Metrics } from '../../runtime/metrics.ts'

/** Why an operator should look at a pod, or at the node. */
export type PodWarning =
  /** It ran in the clear until the agent found it. */
  | 'found_unprotected'
  /** It was let start without an identity, and is outside the mesh until it has one. */
  | 'passed_without_identity'
  /** Nobody said which pods there are, or what a namespace's labels are. */
  | 'undecided'
  /** A label has a value that means nothing. */
  | 'label_unknown'
  /** Rules could not be written or removed. */
  | 'not_settled'

export interface PodCounts { readonly enrolled: number, readonly without_identity: number, readonly left_alone: number }

export interface PodMetrics { warn (reason: PodWarning): void }

export function podMetrics (metrics: Metrics, counts: () => PodCounts): PodMetrics {
  metrics.gauge({ name: 'mesh_pods', help: 'Pods whose network namespace is known, by what they are to the mesh', labels: ['state'] })
    .collectEach(() => Object.entries(counts()).map(([state, value]) => [value as number, { state }] as const))
  const warnings = metrics.counter({
    name: 'mesh_pod_warnings_total', help: 'Pods that need a look; the log names them', labels: ['reason']
  })
  return { warn: reason => warnings.add(1, { reason }) }
}

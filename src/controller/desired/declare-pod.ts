import { SpiffeError } from '../../spiffe/errors.ts'
import type { NamespaceFacts, NodeFacts, PodFacts } from '../kubernetes/cluster-facts.ts'
import { selects } from '../kubernetes/label-selector.ts'
import type { ClusterSpiffeId, ClusterSpiffeIdSpec } from '../resources/cluster-spiffe-id.ts'
import type { Resource } from '../resources/resource.ts'
import { type DesiredEntry, type Naming, renderPodEntry } from './desired-entry.ts'

/** That a resource wants an entry. */
export interface Declaration {
  readonly by: Resource<unknown>
  readonly entry: DesiredEntry
}

/** Why a pod gets no entry of a resource. */
export interface Skip {
  /** Undefined: of no resource. */
  readonly by: Resource<unknown> | undefined
  readonly reason: SkipReason
  /** What is wrong, of `render_failed` alone. */
  readonly rule?: string
}

/**
 * `ignored_namespace`: the configuration says so; `unscheduled`: no node yet; `node_unknown`: its node is not there (yet); `finished`: its
 * containers have ended for good; `has_other`: the resource is a fallback, and another one selects the pod; `render_failed`.
 */
export type SkipReason = 'ignored_namespace' | 'unscheduled' | 'node_unknown' | 'finished' | 'has_other' | 'render_failed'

/** What comes of one pod. */
export interface PodOutcome {
  /** The resources whose selectors match it. */
  readonly selectedBy: readonly ClusterSpiffeId[]
  readonly declarations: readonly Declaration[]
  readonly skips: readonly Skip[]
}

/** What one pod's outcome depends on. */
export interface PodContext {
  /** Undefined where it is not there (yet): then nothing is selected. */
  readonly namespace: NamespaceFacts | undefined
  readonly node: NodeFacts | undefined
  /** Services that the pod is behind; sorted. */
  readonly services: readonly string[]
  /** Of this controller's class; those with unusable specs declare nothing. */
  readonly resources: readonly ClusterSpiffeId[]
  readonly naming: Naming
  readonly ignores: (namespace: string) => boolean
}

/** Which entries a pod should have, and why it lacks others. Knows nothing but its arguments. */
export function declarePod (pod: PodFacts, { namespace, node, services, resources, naming, ignores }: PodContext): PodOutcome {
  if (namespace === undefined) return { selectedBy: [], declarations: [], skips: [] }
  if (ignores(pod.namespace)) return { selectedBy: [], declarations: [], skips: [{ by: undefined, reason: 'ignored_namespace' }] }
  const selecting = resources.flatMap(by => {
    const spec = specOf(by)
    return spec !== undefined && selects(spec.namespaceSelector, namespace.labels) && selects(spec.podSelector, pod.labels)
      ? [{ by, spec }]
      : []
  })
  const hasOther = selecting.some(({ spec }) => !spec.fallback)
  const declarations: Declaration[] = []
  const skips: Skip[] = []
  for (const { by, spec } of selecting) {
    const skip = (reason: SkipReason, rule?: string) => skips.push(rule === undefined ? { by, reason } : { by, reason, rule })
    if (spec.fallback && hasOther) skip('has_other')
    else if (pod.isFinished) skip('finished')
    else if (pod.nodeName === undefined) skip('unscheduled')
    else if (node === undefined) skip('node_unknown')
    else {
      try {
        declarations.push({ by, entry: renderPodEntry(spec, { pod, node, services }, naming) })
      } catch (error) {
        if (!(error instanceof SpiffeError)) throw error
        skip('render_failed', `pod ${pod.namespace}/${pod.name}: ${error.message}`)
      }
    }
  }
  return { selectedBy: selecting.map(({ by }) => by), declarations, skips }
}

function specOf ({ spec }: ClusterSpiffeId): ClusterSpiffeIdSpec | undefined {
  return 'value' in spec ? spec.value : undefined
}

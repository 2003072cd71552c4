import type { Logger } from '../../runtime/logger.ts'
import { type Enrolment, enrolmentOf } from './enrolment.ts'
import type { NamespaceLabels } from './namespace-labels.ts'
import { nameOf, type NodePod } from './node-pod.ts'
import type { PodMetrics } from './pod-metrics.ts'

export interface EnrolmentRules {
  /** Of pods and namespaces: `enabled` or `disabled`. */
  readonly label: string
  /** `undefined`: labels of namespaces do not count. */
  readonly namespaces: NamespaceLabels | undefined
  readonly metrics: PodMetrics
  readonly log: Logger
}

/** For a pod that is about to start: by its namespace's labels of now. @throws {SpiffeError} `kubernetes_unreachable` */
export async function enrolmentNow (pod: NodePod, rules: EnrolmentRules, signal: AbortSignal): Promise<Enrolment> {
  const { label, namespaces } = rules
  const ofNamespace = namespaces === undefined || decides(pod, label) ? undefined : await namespaces.now(pod.namespace, signal)
  const enrolment = enrolmentOf(label, pod.labels, ofNamespace)
  warnOfMistakes(pod, enrolment, rules)
  return enrolment
}

/** @returns `undefined` where nobody has said yet what the namespace's labels are, and the pod's own do not decide */
export function enrolmentAsKnown (pod: NodePod, { label, namespaces }: EnrolmentRules): Enrolment | undefined {
  if (namespaces === undefined) return enrolmentOf(label, pod.labels, undefined)
  const known = namespaces.known(pod.namespace)
  return known === undefined && !decides(pod, label) ? undefined : enrolmentOf(label, pod.labels, known ?? {})
}

export function warnOfMistakes (pod: Pick<NodePod, 'namespace' | 'name'>, { mistaken }: Enrolment, { metrics, log }: EnrolmentRules): void {
  for (const what of mistaken) {
    metrics.warn('label_unknown')
    log.warn({ pod: nameOf(pod) }, what)
  }
}

function decides ({ labels }: NodePod, label: string): boolean { return labels[label] === 'enabled' || labels[label] === 'disabled' }

import { SpiffeError } from '../../spiffe/errors.ts'
import { nameOf, type NodePod, type NodePods, type PodName } from './node-pod.ts'

/** How often the kubelet is asked for a pod that its runtime starts and it does not tell of. */
const attempts = 4

/**
 * The pod that a runtime starts: the kubelet knows it before its runtime does.
 * @throws {SpiffeError} `workload_attestation_failed`: there is none, or one of several
 */
export async function findNamedPod (pods: NodePods, { namespace, name, uid }: PodName, signal: AbortSignal): Promise<NodePod> {
  for (let attempt = 1; ; attempt++) {
    const all = await pods.list(signal)
    const named = [...all.values()].filter(pod => pod.namespace === namespace && pod.name === name && pod.uid === (uid ?? pod.uid))
    if (named.length === 1 && named[0] !== undefined) return named[0]
    if (attempt < attempts) continue
    throw new SpiffeError('workload_attestation_failed', named.length > 1
      ? `the kubelet tells of ${named.length} pods ${nameOf({ namespace, name })}, and the runtime does not say which it starts`
      : `the kubelet does not tell of pod ${nameOf({ namespace, name })}${uid === undefined ? '' : ` with UID ${uid}`}`)
  }
}

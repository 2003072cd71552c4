import type { Clock } from '../../../runtime/clock.ts'
import { readStartTime } from '../../../runtime/process-facts.ts'
import type { NodePod, NodePods } from '../node-pods.ts'
import { containersOfAll, type ContainerPlace } from '../container-places.ts'
import { findPod, type FoundPod, isNoContainer } from './find-pod.ts'
import type { KubeletPods } from './kubelet-pods.ts'
import { hasEnded } from './kubelet-pod-finder.ts'
import type { Pod } from './pod.ts'
import { lastingPodSelectors } from './pod-selectors.ts'

/**
 * Pods by what the kubelet says of this node, processes by their control groups.
 * @param proc where `/proc` is, of the host's PID namespace
 */
export function createNodePods (pods: KubeletPods, clock: Pick<Clock, 'monotonicMs'>, proc = '/proc'): NodePods {
  let known: ReadonlyMap<string, Pod> = new Map()
  return {
    async list (signal) {
      known = (await pods.newer({ askedSinceMs: clock.monotonicMs() }, signal)).pods
      return new Map([...known].map(([uid, pod]) => [uid, nodePodOf(uid, pod)]))
    },
    processes (uids) {
      const found = new Map<string, { readonly pid: number, readonly startedAt: number }[]>()
      const all = [...containersOfAll(proc)]
      const isOutermost = isNoContainer(all.map(({ places }) => places), known)
      for (const { pid, places } of all) {
        const inside = podOf(places)
        const uid = inside?.pod.metadata.uid.toLowerCase()
        const startedAt = uid === undefined || !uids.has(uid) || (inside?.within && isOutermost) ? undefined : readStartTime(pid)
        if (uid === undefined || startedAt === undefined) continue
        found.set(uid, [...found.get(uid) ?? [], { pid, startedAt: Number(startedAt) }])
      }
      return new Map([...found].map(([uid, all]) => [uid, all.toSorted((a, b) => a.startedAt - b.startedAt).map(({ pid }) => pid)]))
    }
  }

  /** Of a container that two pods have nobody knows. */
  function podOf (places: readonly ContainerPlace[]): FoundPod | undefined {
    try {
      return findPod(places, known)
    } catch {
      return undefined
    }
  }
}

function nodePodOf (uid: string, pod: Pod): NodePod {
  const { namespace, name, labels } = pod.metadata
  return {
    uid, namespace, name, labels, selectors: lastingPodSelectors(pod), hostNetwork: pod.spec.hostNetwork, ended: hasEnded(pod)
  }
}

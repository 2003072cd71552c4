import type { PodFinder, PodReference } from '../pod-finder.ts'
import type { KubeletPods } from './kubelet-pods.ts'
import type { Pod } from './pod.ts'
import { podSelectors } from './pod-selectors.ts'

/** Pods by what the kubelet says of this node. */
export function createPodFinder (pods: KubeletPods): PodFinder {
  return {
    async find (reference, signal) {
      let list = await pods.newer({}, signal)
      // One that has just begun may be in the next.
      if (podIn(list.pods, reference) === undefined) list = await pods.newer({ list }, signal)
      const pod = podIn(list.pods, reference)
      return pod === undefined || hasEnded(pod) ? undefined : { uid: pod.metadata.uid, selectors: podSelectors(pod) }
    }
  }
}

function podIn (pods: ReadonlyMap<string, Pod>, { namespace, name, uid }: PodReference): Pod | undefined {
  if (name === undefined) return pods.get(uid.toLowerCase())
  const named = [...pods.values()].find(({ metadata }) => metadata.namespace === namespace && metadata.name === name)
  return uid === undefined || named?.metadata.uid.toLowerCase() === uid.toLowerCase() ? named : undefined
}

export function hasEnded ({ status: { phase } }: Pod): boolean { return phase === 'Succeeded' || phase === 'Failed' }

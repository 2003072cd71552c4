import { SpiffeError } from '../../../spiffe/errors.ts'
import type { ContainerPlace } from '../container-places.ts'
import type { ContainerStatus, Pod } from './pod.ts'

export interface FoundPod {
  readonly pod: Pod
  /** `undefined`: the kubelet does not tell of it yet. */
  readonly container: ContainerStatus | undefined
  /** It is in a container that the kubelet does not know: see `isNoContainer`. */
  readonly within: boolean
}

/**
 * The pod that a process is in. The outermost place whose pod the kubelet knows counts: what is below a container's own group is named by
 * whoever runs in it, and of a node that is itself a container (or a pod) of another cluster, the kubelet knows only the inner one.
 * @param places outermost first
 * @throws {SpiffeError} `workload_attestation_failed`: two pods have the container
 */
export function findPod (places: readonly ContainerPlace[], pods: ReadonlyMap<string, Pod>): FoundPod | undefined {
  for (const [depth, { podUid, containerId }] of places.entries()) {
    const within = depth > 0
    if (podUid !== undefined) {
      const pod = pods.get(podUid)
      if (pod !== undefined) return { pod, container: containerIn(pod, containerId), within }
      continue
    }
    const [found, ...others] = [...pods.values()].flatMap(pod => {
      const container = containerIn(pod, containerId)
      return container === undefined ? [] : [{ pod, container, within }]
    })
    if (others.length > 0) {
      throw new SpiffeError('workload_attestation_failed', `the kubelet says that two pods have container ${containerId}`)
    }
    if (found !== undefined) return found
  }
  return undefined
}

/**
 * Whether the node of these pods is no container itself: one of them is in nothing else. Then none is within another container, and groups
 * that say so were made by whoever runs there: in a pod that the kubelet has forgotten, or does not tell of yet.
 * @param all places of processes
 */
export function isNoContainer (all: Iterable<readonly ContainerPlace[]>, pods: ReadonlyMap<string, Pod>): boolean {
  for (const [outermost] of all) {
    const { podUid, containerId } = outermost ?? {}
    if (podUid !== undefined && pods.has(podUid)) return true
    if (podUid === undefined && containerId !== undefined && [...pods.values()].some(pod => containerIn(pod, containerId))) return true
  }
  return false
}

/** The kubelet writes `containerd://<id>`. */
function containerIn ({ status }: Pod, id: string): ContainerStatus | undefined {
  return [...status.containerStatuses, ...status.initContainerStatuses]
    .find(({ containerID }) => containerID.slice(containerID.indexOf('://') + 3).toLowerCase() === id && containerID.includes('://'))
}

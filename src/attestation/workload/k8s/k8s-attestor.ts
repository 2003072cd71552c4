import type { Clock } from '../../../runtime/clock.ts'
import type { Logger } from '../../../runtime/logger.ts'
import { SpiffeError } from '../../../spiffe/errors.ts'
import type { Selector } from '../../../spiffe/selector.ts'
import type { WorkloadAttestor } from '../workload-attestor.ts'
import { containersOf, containersOfAll, type ContainerPlace } from '../container-places.ts'
import { findPod, isNoContainer } from './find-pod.ts'
import { createNodePods } from './kubelet-node-pods.ts'
import { createPodFinder } from './kubelet-pod-finder.ts'
import type { KubeletPods, PodList } from './kubelet-pods.ts'
import { containerSelectors, podSelectors } from './pod-selectors.ts'

export interface K8sAttestorDeps {
  readonly pods: KubeletPods
  /** How often the kubelet is asked, at most, about a container that it does not tell of yet. */
  readonly maxPollAttempts: number
  readonly pollIntervalMs: number
  /** Say nothing of the container, and do not wait until the kubelet tells of it. */
  readonly podOnly: boolean
  readonly logPlaces: boolean
  /** Where `/proc` is. */
  readonly proc?: string
  readonly clock: Pick<Clock, 'monotonicMs'>
  readonly log: Logger
}

/** On top of what the attempts take: for an answer of a slow kubelet. */
const answerMs = 10_000

/**
 * SPIRE's `k8s` attestor: which pod and container a process is in, and what the kubelet says of them. A process in no container has no
 * selectors. One in a container that the kubelet does not tell of, after as many attempts as allowed, is refused: it never gets less.
 */
export function createK8sAttestor (deps: K8sAttestorDeps): WorkloadAttestor {
  const { pods, maxPollAttempts, pollIntervalMs, podOnly, logPlaces, proc, clock, log } = deps
  return {
    name: 'k8s',
    patienceMs: maxPollAttempts * pollIntervalMs + answerMs,
    pods: createPodFinder(pods),
    nodePods: createNodePods(pods, clock, proc),
    async attest ({ pid }, signal) {
      // What is asked after this is told with all pods that a process of now may be in.
      const begunAtMs = clock.monotonicMs()
      const places = placesOf(pid)
      if (logPlaces) log.info({ pid, places }, 'containers of the process')
      if (places.length === 0) return []
      // Of several, the outermost that is known counts: a list that is too old to have it would lead further in.
      const askedSinceMs = places.length > 1 ? begunAtMs : undefined
      let list: PodList | undefined
      for (let attempt = 1; ; attempt++) {
        try {
          list = await pods.newer({ list, askedSinceMs }, signal)
          const found = selectorsIn(list, places)
          if (found !== undefined) return found
          if (attempt >= maxPollAttempts) throw unknown(places, attempt)
        } catch (error) {
          if (signal.aborted || attempt >= maxPollAttempts) throw error
          log.warn({ pid, attempt, err: error }, 'the kubelet could not be asked; asking again')
        }
      }
    }
  }

  function placesOf (pid: number): readonly ContainerPlace[] {
    try {
      return containersOf(pid, proc)
    } catch (error) {
      if (error instanceof SpiffeError) throw error
      throw new SpiffeError('workload_attestation_failed', `the control groups of process ${pid} cannot be read`, { cause: error })
    }
  }

  function selectorsIn (list: PodList, places: readonly ContainerPlace[]): readonly Selector[] | undefined {
    const found = findPod(places, list.pods)
    if (found === undefined || (found.container === undefined && !podOnly)) return undefined
    if (found.within && isNoContainer(containersOfAll(proc).map(({ places }) => places), list.pods)) return undefined
    const { pod, container } = found
    return [...podSelectors(pod), ...podOnly || container === undefined ? [] : containerSelectors(container)]
  }
}

function unknown (places: readonly ContainerPlace[], attempts: number): SpiffeError {
  const named = places.map(({ podUid, containerId }) => `${containerId.slice(0, 12)}${podUid === undefined ? '' : ` of pod ${podUid}`}`)
  return new SpiffeError(
    'workload_attestation_failed', `the kubelet does not tell of container ${named.join(' or ')}, after ${attempts} attempts`
  )
}

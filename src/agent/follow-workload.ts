import type { FollowedWorkload } from '../attestation/workload/followed-workload.ts'
import type { PodFinder, PodReference } from '../attestation/workload/pod-finder.ts'
import { pinProcess } from '../rpc/unix-peer.ts'
import type { Clock } from '../runtime/clock.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import type { Selector } from '../spiffe/selector.ts'
import type { AttestProcess } from './agent-services.ts'

/** No event tells that a process which is no child of ours has ended; before each state that is sent, it is looked at anyway. */
const lookEveryMs = 500
/** The kubelet is not asked as often. */
const lookForPodEveryMs = 2_000

/** Attests the process that somebody names as it would be attested if it called itself. */
export type AttestPid = (pid: number, context: Parameters<AttestProcess>[1]) => Promise<FollowedWorkload>

/** What it makes throws {SpiffeError} `workload_not_found`, `workload_attestation_failed`. */
export function attestByPid (attest: AttestProcess, clock: Clock): AttestPid {
  return async (pid, context) => {
    const peer = asReferenced(() => pinProcess(pid))
    try {
      const selectors = await attest(peer, context).catch((error: unknown) => { throw notFound(error) })
      return follow(selectors, { check: () => asReferenced(() => peer.check()), release: () => peer[Symbol.dispose](), clock })
    } catch (error) {
      peer[Symbol.dispose]()
      throw error
    }
  }
}

/** Those of `WorkloadRegistry`. */
interface Arrivals {
  readonly arrivals: readonly { readonly uid: string, readonly selectors: readonly Selector[] }[]
}

/**
 * Finds workloads by the names of their network namespaces.
 * @param registry `undefined` where nobody looks for namespaces
 * @returns throws {SpiffeError} `workload_not_found`
 */
export function findByNamespace (registry: Arrivals | undefined, clock: Clock): (name: string) => FollowedWorkload {
  return name => {
    // By the selector: a container runtime gives its workloads names of its own.
    const named = ({ type, value }: Selector) => type === 'netns' && value === `name:${name}`
    const found = registry?.arrivals.find(({ selectors }) => selectors.some(named))
    if (found === undefined) throw new SpiffeError('workload_not_found', `there is no network namespace ${name}`, { requirement: 'BRK-22' })
    const check = () => {
      if (registry?.arrivals.some(({ uid }) => uid === found.uid) === true) return
      throw new SpiffeError('workload_not_found', `network namespace ${name} has gone`, { requirement: 'BRK-25' })
    }
    return follow(found.selectors, { check, release () {}, clock })
  }
}

/**
 * Finds pods of this node, and follows each until it ends. A kubelet that does not answer says nothing of that.
 * @returns throws {SpiffeError} `workload_not_found`, `workload_attestation_failed`; `undefined` where no attestor knows pods
 */
export function findByPod (finder: PodFinder | undefined, clock: Clock):
((pod: PodReference, context: Parameters<AttestProcess>[1]) => Promise<FollowedWorkload>) | undefined {
  if (finder === undefined) return undefined
  return async (pod, { log, signal }) => {
    const found = await finder.find(pod, signal)
    if (found === undefined) throw new SpiffeError('workload_not_found', 'there is no such pod on this node', { requirement: 'BRK-22' })
    const left = new AbortController()
    let isGone = false
    const look = async () => {
      while (!isGone && !left.signal.aborted) {
        await clock.sleep(lookForPodEveryMs, left.signal)
        try {
          isGone = await finder.find({ uid: found.uid }, left.signal) === undefined
        } catch (error) {
          if (!left.signal.aborted) log.debug({ pod: found.uid, err: error }, 'nobody says whether the pod is still there')
        }
      }
    }
    void look().catch(() => {})
    const check = () => {
      if (isGone) throw new SpiffeError('workload_not_found', `pod ${found.uid} has gone`, { requirement: 'BRK-25' })
    }
    return follow(found.selectors, { check, release: () => left.abort(), clock })
  }
}

interface Followed {
  /** Throws once it has ended. */
  readonly check: () => void
  readonly release: () => void
  readonly clock: Clock
}

function follow (selectors: readonly Selector[], { check, release, clock }: Followed): FollowedWorkload {
  const ended = new AbortController()
  const left = new AbortController()
  void look()
  return {
    selectors,
    ended: ended.signal,
    check,
    [Symbol.dispose] () {
      left.abort()
      release()
    }
  }

  async function look (): Promise<void> {
    while (!left.signal.aborted) {
      try {
        check()
      } catch (error) {
        return ended.abort(error)
      }
      await clock.sleep(lookEveryMs, left.signal).catch(() => {})
    }
  }
}

function asReferenced<T> (look: () => T): T {
  try {
    return look()
  } catch (error) {
    throw notFound(error)
  }
}

/** What is gone is not the caller. */
function notFound (error: unknown): unknown {
  if (codeOf(error) !== 'caller_gone') return error
  return new SpiffeError('workload_not_found', (error as SpiffeError).message, { cause: error, requirement: 'BRK-22' })
}

import type { FollowedWorkload } from '../attestation/workload/followed-workload.ts'
import type { CallContext } from '../rpc/call.ts'
import type { Clock } from '../runtime/clock.ts'
import { codeOf } from '../spiffe/errors.ts'

/** A right that is taken away ends a stream after so long; the API server is not asked more often. */
const reviewEveryMs = 60_000

/**
 * The workload as long as whoever named it may have it: asked before anything is given, and again while a stream goes on. Who decides being
 * away is a refusal at first, and none later.
 * @param review throws {SpiffeError} `reference_not_allowed`
 * @throws {SpiffeError} what `review` threw; the workload is disposed of then
 */
export async function whileAllowed (
  workload: FollowedWorkload, review: (signal: AbortSignal) => Promise<void>, { log, signal }: Pick<CallContext, 'log' | 'signal'>,
  clock: Clock
): Promise<FollowedWorkload> {
  try {
    await review(signal)
  } catch (error) {
    workload[Symbol.dispose]()
    throw error
  }
  const left = new AbortController()
  const denied = new AbortController()
  void look().catch(() => {})
  return {
    selectors: workload.selectors,
    ended: AbortSignal.any([workload.ended, denied.signal]),
    check () {
      denied.signal.throwIfAborted()
      workload.check()
    },
    [Symbol.dispose] () {
      left.abort()
      workload[Symbol.dispose]()
    }
  }

  async function look (): Promise<void> {
    for (;;) {
      await clock.sleep(reviewEveryMs, left.signal)
      try {
        await review(left.signal)
      } catch (error) {
        if (left.signal.aborted) return
        if (codeOf(error) === 'reference_not_allowed') return denied.abort(error)
        log.warn({ err: error }, 'nobody says whether the broker may still have the workload')
      }
    }
  }
}

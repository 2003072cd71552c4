import type { Clock } from '../../runtime/clock.ts'
import type { SpiffeError } from '../../spiffe/errors.ts'

const over = new Error('it is over')

/**
 * Gives work so long. Leaves nothing behind on a signal that lives long.
 * @param late what is thrown when time is up
 * @param work must end when its signal aborts
 * @throws the signal's reason when it aborts; what `work` throws
 */
export async function withDeadline<T> (
  clock: Clock, ms: number, late: () => SpiffeError, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>
): Promise<T> {
  signal.throwIfAborted()
  const stop = new AbortController()
  const forward = () => stop.abort(signal.reason)
  signal.addEventListener('abort', forward)
  clock.sleep(ms, stop.signal).then(() => stop.abort(late()), () => undefined)
  try {
    return await work(stop.signal)
  } catch (error) {
    throw stop.signal.aborted ? stop.signal.reason : error
  } finally {
    signal.removeEventListener('abort', forward)
    stop.abort(over)
  }
}

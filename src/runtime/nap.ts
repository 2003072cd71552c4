import type { Clock } from './clock.ts'

const over = new Error('the nap is over')

/**
 * Waits for so long, or until `woken` settles. Leaves nothing behind on a signal that lives long; `AbortSignal.any` would, some hundred
 * bytes each time.
 * @throws the signal's reason when it aborts
 */
export async function nap (clock: Pick<Clock, 'sleep'>, ms: number, woken: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const rest = new AbortController()
  const stop = () => rest.abort(signal.reason)
  signal.addEventListener('abort', stop)
  try {
    await Promise.race([woken, clock.sleep(ms, rest.signal).catch(() => {})])
  } finally {
    signal.removeEventListener('abort', stop)
    // Without a reason one is made, with its stack.
    rest.abort(over)
  }
  signal.throwIfAborted()
}

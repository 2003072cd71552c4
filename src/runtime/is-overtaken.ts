import type { Clock } from './clock.ts'
import { nap } from './nap.ts'

/** Whether what is waited for came before the time was over; also when the signal aborts, which ends both. */
export async function isOvertaken (next: Promise<unknown>, ms: number, clock: Pick<Clock, 'sleep'>, signal: AbortSignal): Promise<boolean> {
  let overtaken = false
  try {
    await nap(clock, ms, next.then(() => { overtaken = true }), signal)
  } catch (error) {
    if (!signal.aborted) throw error
  }
  return overtaken || signal.aborted
}

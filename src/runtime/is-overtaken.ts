import type { Clock } from './clock.ts'

/** Whether what is waited for came before the time was over; also when the signal aborts, which ends both. */
export async function isOvertaken (next: Promise<unknown>, ms: number, clock: Pick<Clock, 'sleep'>, signal: AbortSignal): Promise<boolean> {
  const done = new AbortController()
  const waited = clock.sleep(ms, AbortSignal.any([signal, done.signal])).then(() => false, () => true)
  const overtaken = await Promise.race([next.then(() => true), waited])
  done.abort()
  return overtaken
}

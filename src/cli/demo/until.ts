import { setTimeout as sleep } from 'node:timers/promises'

/** Polls other processes' doings. Throws when `timeoutMs` passes, and the signal's reason when that aborts. */
export async function until<T> (
  what: string, look: () => T | undefined | Promise<T | undefined>, timeoutMs: number, signal: AbortSignal
): Promise<T> {
  const end = performance.now() + timeoutMs
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (performance.now() > end) throw new Error(`waited ${timeoutMs / 1_000} s for ${what}`)
    await sleep(20)
    signal.throwIfAborted()
  }
}

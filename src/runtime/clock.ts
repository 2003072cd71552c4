/** Time as a parameter: the only way the rest of Assay learns the time or waits. */
export interface Clock {
  /** Wall-clock time. */
  now (): Date
  /** Milliseconds that never go back; for durations. */
  monotonicMs (): number
  /** Resolves after `ms`, of any length (TS-05). Rejects with the signal's reason when it aborts. */
  sleep (ms: number, signal?: AbortSignal): Promise<void>
}

/** `setTimeout` fires at once above this (TS-05). */
const longestTimerMs = 2_147_483_647

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  async sleep (ms, signal) {
    for (let left = Math.max(0, ms); ; left -= longestTimerMs) {
      await timer(Math.min(left, longestTimerMs), signal)
      if (left <= longestTimerMs) return
    }
  }
}

function timer (ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const done = () => { signal?.removeEventListener('abort', stop); resolve() }
    const stop = () => { clearTimeout(handle); reject(signal?.reason) }
    const handle = setTimeout(done, ms)
    signal?.addEventListener('abort', stop, { once: true })
  })
}

import type { Clock } from '../../src/runtime/clock.ts'

interface Sleeper { readonly dueMs: number, readonly wake: () => void, timer: NodeJS.Timeout | undefined }

const longestTimerMs = 2_147_483_647

/**
 * Goes on as the real clock does, from an instant that a test chooses, and is set forward by hand: whoever sleeps until then wakes, in the
 * order in which they fall due. For what real processes beside it must find valid, it begins in the past.
 */
export class SkippingClock implements Clock {
  readonly #behindMs: number
  readonly #sleepers = new Set<Sleeper>()
  #skippedMs = 0

  /** @param behindMs how long ago it begins */
  constructor (behindMs: number) { this.#behindMs = behindMs }

  /** What is left until it is as late as the real one. */
  get behindMs (): number { return this.#behindMs - this.#skippedMs }

  now (): Date { return new Date(Date.now() - this.behindMs) }
  monotonicMs (): number { return performance.now() + this.#skippedMs }

  sleep (ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const end = () => {
        clearTimeout(sleeper.timer)
        this.#sleepers.delete(sleeper)
        signal?.removeEventListener('abort', stop)
      }
      const stop = () => {
        end()
        reject(signal?.reason)
      }
      const wake = () => {
        end()
        resolve()
      }
      const sleeper: Sleeper = { dueMs: this.monotonicMs() + ms, wake, timer: undefined }
      this.#sleepers.add(sleeper)
      signal?.addEventListener('abort', stop, { once: true })
      this.#arm(sleeper)
    })
  }

  skip (ms: number): void {
    this.#skippedMs += ms
    for (const sleeper of [...this.#sleepers].toSorted((a, b) => a.dueMs - b.dueMs)) this.#arm(sleeper)
  }

  #arm (sleeper: Sleeper): void {
    clearTimeout(sleeper.timer)
    const left = sleeper.dueMs - this.monotonicMs()
    if (left <= 0) return sleeper.wake()
    // One that is too long is looked at again.
    sleeper.timer = setTimeout(() => this.#arm(sleeper), Math.min(left, longestTimerMs))
  }
}

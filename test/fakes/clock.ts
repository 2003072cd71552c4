import type { Clock } from '../../src/runtime/clock.ts'

interface Sleeper { readonly due: number, readonly wake: () => void }

/** A clock moved by hand. `advance` wakes sleepers in the order they fall due, letting promises settle in between. */
export class ManualClock implements Clock {
  #ms: number
  #sleepers: Sleeper[] = []

  constructor (start: Date | string = '2026-01-01T00:00:00Z') { this.#ms = new Date(start).getTime() }

  now (): Date { return new Date(this.#ms) }
  monotonicMs (): number { return this.#ms }
  /** How many sleeps are pending: lets a test wait until the code under test waits. */
  get sleeping (): number { return this.#sleepers.length }

  sleep (ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const stop = () => { this.#sleepers = this.#sleepers.filter(other => other !== sleeper); reject(signal?.reason) }
      const sleeper = { due: this.#ms + ms, wake: () => { signal?.removeEventListener('abort', stop); resolve() } }
      this.#sleepers.push(sleeper)
      signal?.addEventListener('abort', stop, { once: true })
    })
  }

  async advance (ms: number): Promise<void> {
    const end = this.#ms + ms
    for (;;) {
      await settle()
      const next = this.#sleepers.filter(sleeper => sleeper.due <= end).toSorted((a, b) => a.due - b.due)[0]
      if (next === undefined) break
      this.#sleepers = this.#sleepers.filter(sleeper => sleeper !== next)
      this.#ms = Math.max(this.#ms, next.due)
      next.wake()
    }
    this.#ms = end
    await settle()
  }

  /** Set forward at once, as after a machine has slept: whoever's sleep is over wakes, and finds that it is later than it was to wake. */
  async skip (ms: number): Promise<void> {
    await settle()
    this.#ms += ms
    const over = this.#sleepers.filter(({ due }) => due <= this.#ms).toSorted((a, b) => a.due - b.due)
    this.#sleepers = this.#sleepers.filter(({ due }) => due > this.#ms)
    for (const { wake } of over) wake()
    await settle()
  }
}

/** Lets pending promise callbacks and I/O events run. */
export async function settle (): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise(resolve => setImmediate(resolve))
}

const patienceMs = 60_000

/** Settles until it is so, with the clock at rest: keys, for one, are made on the thread pool, which may have to wait for a core. */
export async function until (isSo: () => boolean): Promise<void> {
  for (const end = performance.now() + patienceMs; !isSo();) {
    if (performance.now() > end) throw new Error('did not happen')
    await settle()
  }
}

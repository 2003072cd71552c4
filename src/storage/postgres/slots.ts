import type { Clock } from '../../runtime/clock.ts'

/** A number of places, given out in the order in which they were asked for. */
export class Slots {
  readonly #clock: Clock
  readonly #waiting = new Set<() => void>()
  #free: number

  constructor (places: number, clock: Clock) {
    this.#free = places
    this.#clock = clock
  }

  /** @returns whether there was a place within that time; without one, it waits as long as it takes */
  async take (timeoutMs?: number): Promise<boolean> {
    if (this.#free > 0) {
      this.#free--
      return true
    }
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const served = new AbortController()
    const wake = () => resolve(true)
    this.#waiting.add(wake)
    if (timeoutMs !== undefined) {
      this.#clock.sleep(timeoutMs, served.signal).then(() => {
        this.#waiting.delete(wake)
        resolve(false)
      }, () => {})
    }
    try {
      return await promise
    } finally {
      served.abort()
    }
  }

  give (): void {
    const [next] = this.#waiting
    if (next === undefined) {
      this.#free++
      return
    }
    this.#waiting.delete(next)
    next()
  }
}

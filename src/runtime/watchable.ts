/**
 * A value that changes, with watchers that see whole states: the current one first, then the newest.
 * A slow watcher skips what it had no time for; it never sees a state twice and never goes back.
 */
export class Watchable<T> {
  #value: T
  #revision = 0
  readonly #waiting = new Set<() => void>()

  constructor (initial: T) { this.#value = initial }

  get value (): T { return this.#value }
  /** Grows by one with each `set`. */
  get revision (): number { return this.#revision }

  set (value: T): void {
    this.#value = value
    this.#revision++
    const woken = [...this.#waiting]
    this.#waiting.clear()
    for (const wake of woken) wake()
  }

  /** Ends, without an error, when the signal aborts. */
  async * watch (signal: AbortSignal): AsyncGenerator<T, void, undefined> {
    for (let seen = -1; !signal.aborted;) {
      if (seen === this.#revision) {
        await this.#next(signal)
        continue
      }
      seen = this.#revision
      yield this.#value
    }
  }

  #next (signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const wake = () => {
        signal.removeEventListener('abort', wake)
        this.#waiting.delete(wake)
        resolve()
      }
      this.#waiting.add(wake)
      signal.addEventListener('abort', wake, { once: true })
    })
  }
}

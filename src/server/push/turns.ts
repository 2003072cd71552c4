import { setImmediate as nextTurn } from 'node:timers/promises'

/** Streams that say what they have to within one turn: some milliseconds. */
const perTurn = 32

/** Runs many things a few at a time, so that a change that touches every agent leaves the event loop to others in between. */
export class Turns {
  readonly #due = new Set<() => void>()
  #running = false

  /** Runs `work` now, or when those before it had their turn; once, however often it is asked for until then. */
  soon (work: () => void): void {
    this.#due.add(work)
    if (!this.#running) void this.#run()
  }

  async #run (): Promise<void> {
    this.#running = true
    while (this.#due.size > 0) {
      let left = perTurn
      for (const work of this.#due) {
        this.#due.delete(work)
        work()
        if (--left === 0) break
      }
      await nextTurn()
    }
    this.#running = false
  }
}

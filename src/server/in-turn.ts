/**
 * Runs asynchronous steps one after the other. Writes go through it so that what is shown in memory follows the order
 * in which the database committed.
 */
export class InTurn {
  #last: Promise<unknown> = Promise.resolve()

  run<T> (step: () => Promise<T>): Promise<T> {
    const result = this.#last.then(step, step)
    this.#last = result.catch(() => {})
    return result
  }
}

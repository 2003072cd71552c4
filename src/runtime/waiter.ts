/** Lets one task wait until another has something for it. Waking while nobody waits is forgotten. */
export class Waiter {
  #done: () => void = () => {}

  wake (): void { this.#done() }

  /** Settles at the next `wake`, or when the signal aborts; leaves nothing behind on the signal. */
  wait (signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const done = () => {
        signal.removeEventListener('abort', done)
        this.#done = () => {}
        resolve()
      }
      this.#done = done
      signal.addEventListener('abort', done)
      if (signal.aborted) done()
    })
  }
}

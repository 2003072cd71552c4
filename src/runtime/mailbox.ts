/** Messages put in by one side and iterated by the other, in order; ends once closed and empty. For the request side of a stream. */
export class Mailbox<T> implements AsyncIterable<T> {
  readonly #messages: T[] = []
  #closed = false
  #wake: () => void = () => {}

  put (message: T): void {
    this.#messages.push(message)
    this.#wake()
  }

  close (): void {
    this.#closed = true
    this.#wake()
  }

  async * [Symbol.asyncIterator] (): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const message = this.#messages.shift()
      if (message !== undefined) yield message
      else if (this.#closed) return
      else await new Promise<void>(resolve => { this.#wake = resolve })
    }
  }
}

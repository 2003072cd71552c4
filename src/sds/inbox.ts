/**
 * Two sources read side by side, for a stream that answers both what its client asks and what changes meanwhile.
 * At most one item of each waits here: nothing more is read from a client before what it asked is taken.
 */
export class Inbox<A, B> implements Disposable {
  readonly #waiting: { readonly item: Item<A, B>, readonly taken: () => void }[] = []
  #wake: (() => void) | undefined
  #ended = false
  #closed = false
  #failure: { readonly error: unknown } | undefined

  /** @param requests whose end is the end; @param states likewise */
  constructor (requests: AsyncIterable<A>, states: AsyncIterable<B>) {
    void this.#pump(requests, request => ({ kind: 'request', request }))
    void this.#pump(states, state => ({ kind: 'state', state }))
  }

  /** What has come already. */
  poll (): Item<A, B> | undefined {
    if (this.#failure !== undefined) throw this.#failure.error
    const next = this.#waiting.shift()
    next?.taken()
    return next?.item
  }

  /** Waits for the next item; `undefined` once a source has ended and everything before was taken. Throws what a source threw. */
  async take (): Promise<Item<A, B> | undefined> {
    for (;;) {
      const item = this.poll()
      if (item !== undefined || this.#ended) return item
      await new Promise<void>(resolve => { this.#wake = resolve })
    }
  }

  /** Lets go of both sources; one that is being waited for must be ended by its own signal. */
  [Symbol.dispose] (): void {
    this.#closed = true
    for (const { taken } of this.#waiting.splice(0)) taken()
  }

  async #pump<T> (source: AsyncIterable<T>, wrap: (value: T) => Item<A, B>): Promise<void> {
    try {
      for await (const value of source) {
        await new Promise<void>(resolve => {
          this.#waiting.push({ item: wrap(value), taken: resolve })
          this.#wake?.()
        })
        if (this.#closed) break
      }
      this.#ended = true
    } catch (error) {
      this.#failure ??= { error }
    }
    this.#wake?.()
  }
}

export type Item<A, B> = { readonly kind: 'request', readonly request: A } | { readonly kind: 'state', readonly state: B }

const mostMs = 60_000

/**
 * How long a client waits for a server's side of TLS: longer after each time that it waited in vain, since a server whom a crowd asks takes
 * them in turn, and who gives up loses its place.
 */
export class HandshakePatience {
  readonly #leastMs: number
  #ms: number

  constructor (leastMs = 10_000) {
    this.#leastMs = this.#ms = leastMs
  }

  get ms (): number { return this.#ms }

  waitedInVain (): void { this.#ms = Math.min(mostMs, this.#ms * 2) }
  wasAnswered (): void { this.#ms = this.#leastMs }
}

import type { Channel } from './channel.ts'

interface Held { readonly channel: Channel, calls: number, retired: boolean }

/** A channel that can be replaced: calls under way end on the one they began with, which closes after the last of them. */
export class RetiringChannel implements AsyncDisposable {
  readonly #open: () => Channel
  readonly #isSuperseded: (error: unknown) => boolean
  #current: Held

  /** @param isSuperseded whether a call failed because the identity of its channel was replaced meanwhile */
  constructor (open: () => Channel, isSuperseded: (error: unknown) => boolean) {
    this.#open = open
    this.#isSuperseded = isSuperseded
    this.#current = { channel: open(), calls: 0, retired: false }
  }

  /** A call that was refused because a newer channel's identity was faster is made again, over that channel. */
  async use<T> (call: (channel: Channel) => Promise<T>): Promise<T> {
    for (;;) {
      const held = this.#current
      try {
        return await this.#hold(held, call)
      } catch (error) {
        if (held === this.#current || !this.#isSuperseded(error)) throw error
      }
    }
  }

  async #hold<T> (held: Held, call: (channel: Channel) => Promise<T>): Promise<T> {
    held.calls++
    try {
      return await call(held.channel)
    } finally {
      held.calls--
      if (held.retired && held.calls === 0) await held.channel[Symbol.asyncDispose]()
    }
  }

  /** Later calls go over a new connection. */
  async replace (): Promise<void> {
    const old = this.#current
    this.#current = { channel: this.#open(), calls: 0, retired: false }
    old.retired = true
    if (old.calls === 0) await old.channel[Symbol.asyncDispose]()
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#current.channel[Symbol.asyncDispose]() }
}

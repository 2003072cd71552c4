import type { Channel } from '../rpc/channel.ts'

/** A channel that can be replaced: calls under way end on the one they began with, which closes after the last of them. */
export class RetiringChannel implements AsyncDisposable {
  readonly #open: () => Channel
  #current: { readonly channel: Channel, calls: number, retired: boolean }

  constructor (open: () => Channel) {
    this.#open = open
    this.#current = { channel: open(), calls: 0, retired: false }
  }

  async use<T> (call: (channel: Channel) => Promise<T>): Promise<T> {
    const held = this.#current
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

import type { Socket } from 'node:net'
import type { SpiffeError } from '../spiffe/errors.ts'
import type { Caller } from './call.ts'

/** A caller, or why its calls are refused (a bad client certificate is answered, not just cut off). */
export type Identified = { readonly caller: Caller } | { readonly refusal: SpiffeError }

/**
 * The open connections of a server. grpc-js tells a handler no more than the peer's address, so each socket gets its
 * key as its address, before grpc-js sees it.
 */
export class Connections {
  readonly #open = new Map<string, { readonly socket: Socket, readonly identified: Identified }>()
  readonly #waiting: Array<() => void> = []
  #next = 1

  nextKey (kind: 'unix' | 'tls'): string { return `${kind}-${this.#next++}` }

  /** Keeps the connection until its socket closes; returns false if it is closed already. */
  add (key: string, socket: Socket, identified: Identified): boolean {
    if (socket.destroyed) return false
    Object.defineProperty(socket, 'remoteAddress', { value: key })
    Object.defineProperty(socket, 'remotePort', { value: undefined })
    this.#open.set(key, { socket, identified })
    socket.once('close', () => {
      this.#open.delete(key)
      if (this.#open.size === 0) for (const wake of this.#waiting.splice(0)) wake()
    })
    return true
  }

  /** @param key what grpc-js gives as the peer of a call */
  find (key: string): Identified | undefined {
    return this.#open.get(key)?.identified
  }

  /** Resolves when the last one has closed. */
  async closed (): Promise<void> {
    if (this.#open.size > 0) await new Promise<void>(resolve => this.#waiting.push(resolve))
  }

  destroyAll (): void {
    for (const { socket } of this.#open.values()) socket.destroy()
  }
}

import type { Socket } from 'node:net'
import type { Clock } from '../runtime/clock.ts'
import { hostAndPort } from '../runtime/host-and-port.ts'
import type { Logger } from '../runtime/logger.ts'
import { readProxyHeader, type PeerAddress } from './proxy-header.ts'
import { endsOf, type Ends } from './socket-ends.ts'

export interface ProxiedPeersOptions {
  /** Whether this address may say whose connection it passes on. */
  readonly isTrusted: (address: string) => boolean
  /** From accept to the end of the header, or to the first word of whoever sends none. */
  readonly headerMs: number
  readonly clock: Clock
  readonly log: Logger
}

/**
 * Whose connections those are that proxies pass on, as they say in the PROXY protocol. A proxy that is trusted may leave it out, and then
 * stands for itself; whoever else begins so is refused.
 */
export class ProxiedPeers {
  readonly #options: ProxiedPeersOptions
  readonly #clients = new Map<string, PeerAddress>()
  readonly #unheard = new Set<Socket>()

  constructor (options: ProxiedPeersOptions) { this.#options = options }

  trusts ({ remoteAddress }: Ends): boolean {
    return remoteAddress !== undefined && this.#options.isTrusted(remoteAddress)
  }

  /** Who is at the end of a connection that was met, of the socket or of what TLS makes of it; `undefined`: who it comes from. */
  clientOf (socket: Ends): PeerAddress | undefined { return this.#clients.get(endsOf(socket)) }

  /**
   * Hears what a connection that was just accepted begins with. Who says too little in time, a malformed header, or one without being
   * trusted, is sent away.
   * @param then called with what came after the header: TLS begins with it
   */
  meet (socket: Socket, then: (said: Buffer) => void): void {
    const { headerMs, clock, log } = this.#options
    const ends = endsOf(socket)
    const proxy = hostAndPort(socket.remoteAddress ?? '', socket.remotePort ?? 0)
    const trusted = this.trusts(socket)
    const over = new AbortController()
    let said = Buffer.alloc(0)
    const refuse = (reason: string) => {
      log.warn({ address: proxy, reason }, 'connection refused: its PROXY header')
      socket.destroy()
    }
    const read = () => {
      for (let bytes = socket.read() as Buffer | null; bytes !== null; bytes = socket.read() as Buffer | null) {
        said = Buffer.concat([said, bytes])
      }
      const reading = readProxyHeader(said)
      if (reading.kind === 'unfinished') return
      leave()
      if (reading.kind === 'none') return then(said)
      if (!trusted) return refuse('it does not come from a trusted proxy')
      if (reading.kind === 'malformed') return refuse(reading.rule)
      const { client, length } = reading
      if (client !== undefined) this.#keep(ends, client, socket)
      then(said.subarray(length))
    }
    const leave = () => {
      this.#unheard.delete(socket)
      over.abort()
      socket.off('readable', read).off('close', leave)
    }
    socket.on('error', () => undefined).on('close', leave).on('readable', read)
    this.#unheard.add(socket)
    clock.sleep(headerMs, over.signal).then(() => socket.destroy(), () => undefined)
  }

  /** Sends away whoever has not said anything yet. */
  close (): void { for (const socket of this.#unheard) socket.destroy() }

  #keep (ends: string, client: PeerAddress, socket: Socket): void {
    this.#clients.set(ends, client)
    socket.once('close', () => { if (this.#clients.get(ends) === client) this.#clients.delete(ends) })
  }
}

import type { Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Clock } from '../runtime/clock.ts'
import { noNetwork, peerNetwork } from './peer-network.ts'
import { endsOf, type Ends } from './socket-ends.ts'
import { Tally } from './tally.ts'
import { Turns } from './turns.ts'

export interface HandshakeGateOptions {
  /** Handshakes at a time. */
  readonly most: number
  /** Of those, of one network (`peerNetwork`), however many wait: what is left is for whoever comes from elsewhere. */
  readonly mostPerNetwork: number
  /** A handshake that has taken so long waits for its client; it goes on, and another one may begin. */
  readonly slotMs: number
  /** What a client gets to say the first word of TLS. */
  readonly firstWordMs: number
  readonly clock: Clock
}

/** A TLS client's hello has some hundred bytes, and rarely more than ten thousand. */
const mostBytes = 64 * 1024
/** The longer a turn of the event loop takes, the fewer begin: who is in already is served first. */
const mostPerTurn = 8
/** A connection that has spoken. */
interface Waiting {
  readonly socket: Socket
  readonly network: string
  /** What it said so far. */
  readonly words: readonly Buffer[]
  readonly leave: () => void
}

/**
 * Lets connections into TLS a few at a time, one of each network in turn, of one network in the order in which they spoke. Whoever comes in
 * a crowd then waits where waiting is cheap: nothing is computed for it, nothing of it counts against a timeout of ours, who gives up
 * meanwhile has cost next to nothing, and who comes from elsewhere does not wait behind it. Without it all of a crowd's handshakes advance
 * together until none ends in time (docs/adr/0020-handshakes-in-turn.md).
 */
export class HandshakeGate {
  readonly #options: HandshakeGateOptions
  readonly #begin: (socket: Socket) => void
  readonly #silent = new Set<Socket>()
  readonly #waiting = new Turns<Waiting>()
  /** When each began, oldest first. */
  readonly #running = new Map<string, { readonly beganMs: number, readonly network: string }>()
  readonly #runningOf = new Tally()
  #admitting = false
  #watching = false
  #closed = false

  /** @param begin starts TLS on a connection that has said its first word, which is in the socket's buffer again */
  constructor (options: HandshakeGateOptions, begin: (socket: Socket) => void) {
    this.#options = options
    this.#begin = begin
  }

  /** Connections that have spoken and wait. */
  get waiting (): number { return this.#waiting.size }

  /**
   * A connection that was just accepted.
   * @param from whom it counts for, where that is not the address it comes from
   * @param said what was read of it already
   */
  enter (socket: Socket, from = socket.remoteAddress, said: Buffer = Buffer.alloc(0)): void {
    if (this.#closed) {
      socket.destroy()
      return
    }
    const network = peerNetwork(from)
    const words = [said]
    let size = said.length
    let spoke = false
    const read = () => {
      for (let bytes = socket.read() as Buffer | null; bytes !== null; bytes = socket.read() as Buffer | null) {
        words.push(bytes)
        size += bytes.length
      }
      if (size > mostBytes) socket.destroy()
      if (size === 0 || size > mostBytes || spoke) return
      spoke = true
      this.#silent.delete(socket)
      this.#waiting.add(network, waiting)
      this.#admit()
    }
    const leave = () => {
      this.#silent.delete(socket)
      this.#waiting.remove(network, waiting)
      socket.off('readable', read).off('close', leave)
    }
    const waiting: Waiting = { socket, network, words, leave }
    const ends = endsOf(socket)
    socket.on('readable', read).on('close', leave).on('error', () => undefined).once('close', () => this.#leave(ends))
    socket.setTimeout(this.#options.firstWordMs, () => { if (this.#silent.has(socket)) socket.destroy() })
    this.#silent.add(socket)
    if (size > 0) read()
  }

  /** The handshake of this connection, by now a TLS socket, is over. */
  done (socket: Ends): void { this.#leave(endsOf(socket)) }

  /** Sends away whoever has not had its turn; handshakes under way go on. */
  close (): void {
    this.#closed = true
    for (const socket of [...this.#silent, ...[...this.#waiting].map(({ socket }) => socket)]) socket.destroy()
  }

  #leave (key: string): void {
    if (this.#end(key)) this.#admit()
  }

  #end (key: string): boolean {
    const ended = this.#running.get(key)
    if (ended === undefined) return false
    this.#running.delete(key)
    this.#runningOf.remove(ended.network)
    return true
  }

  #admit (): void {
    if (!this.#admitting) void this.#admitInTurns()
  }

  async #admitInTurns (): Promise<void> {
    this.#admitting = true
    while (this.#waiting.size > 0) {
      this.#expire()
      let begun = 0
      while (begun < mostPerTurn && this.#beginNext()) begun++
      if (this.#waiting.size > 0 && begun < mostPerTurn) {
        this.#watch()
        break
      }
      await nextTurn()
    }
    this.#admitting = false
  }

  /** @returns whether somebody could begin */
  #beginNext (): boolean {
    const { most, mostPerNetwork, clock } = this.#options
    if (this.#running.size >= most) return false
    const next = this.#waiting.take(network => network === noNetwork || this.#runningOf.of(network) < mostPerNetwork)
    if (next === undefined) return false
    const { socket, network, words, leave } = next
    leave()
    socket.setTimeout(0).removeAllListeners('timeout')
    socket.unshift(Buffer.concat(words))
    const key = endsOf(socket)
    this.#end(key)
    this.#running.set(key, { beganMs: clock.monotonicMs(), network })
    this.#runningOf.add(network)
    this.#begin(socket)
    return true
  }

  #expire (): void {
    const before = this.#options.clock.monotonicMs() - this.#options.slotMs
    for (const [key, { beganMs }] of this.#running) {
      if (beganMs > before) return
      this.#end(key)
    }
  }

  /** Wakes when the oldest has had its time. */
  #watch (): void {
    if (this.#watching) return
    this.#watching = true
    const { clock, slotMs } = this.#options
    const [oldest] = this.#running.values()
    void clock.sleep((oldest?.beganMs ?? 0) + slotMs - clock.monotonicMs()).then(() => {
      this.#watching = false
      this.#admit()
    })
  }
}

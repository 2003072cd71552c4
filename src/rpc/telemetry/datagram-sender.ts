import { createSocket, type Socket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { setTimeout as pause } from 'node:timers/promises'
import type { Clock } from '../../runtime/clock.ts'
import type { ListenAddress } from '../../runtime/config-schema.ts'
import { hostAndPort } from '../../runtime/host-and-port.ts'
import type { Logger } from '../../runtime/logger.ts'
import { Waiter } from '../../runtime/waiter.ts'

/** Lines wait so long for others that go with them. */
const gatherMs = 100
/** Between tries, after one that failed. */
const restMs = 5_000
/** Without a failure for so long, whoever was away is there again. */
const quietMs = 60_000
/** Datagrams that wait, above all while nobody takes them; the oldest go first. */
const mostWaiting = 256
/** Datagrams that were given to the system, and are not taken by it yet. */
const mostUnderWay = 64
/** What the last datagrams get when the program ends. */
const partingMs = 1_000

export interface DatagramSenderDeps {
  /** Bytes that one datagram has at the most; what is cut into pieces on its way is lost more easily. */
  readonly largest: number
  readonly clock: Clock
  readonly log: Logger
}

/**
 * Sends lines over UDP, many in one datagram. It never keeps its caller waiting, and keeps a bounded number of lines: whoever receives may
 * be away at any time, and then some are lost.
 */
export class DatagramSender implements AsyncDisposable {
  readonly #to: ListenAddress
  readonly #deps: DatagramSenderDeps
  readonly #waiter = new Waiter()
  readonly #stop = new AbortController()
  readonly #running: Promise<void>
  #lines: string[] = []
  #bytes = 0
  #waiting: Buffer[] = []
  #underWay = 0
  #socket: Socket | undefined
  #hasEnded = false
  /** The last time, of somebody who is away. */
  #failedMs: number | undefined
  /** Lines, since the last word about it. */
  #lost = 0

  constructor (to: ListenAddress, deps: DatagramSenderDeps) {
    this.#to = to
    this.#deps = deps
    this.#running = this.#run(this.#stop.signal)
  }

  /** @param line without its end */
  push (line: string): void {
    const bytes = Buffer.byteLength(line) + 1
    if (bytes > this.#deps.largest) {
      this.#lost++
      return
    }
    if (this.#bytes + bytes > this.#deps.largest) this.#seal()
    this.#lines.push(line)
    this.#bytes += bytes
    this.#waiter.wake()
  }

  /** Sends what is left. */
  async [Symbol.asyncDispose] (): Promise<void> {
    this.#stop.abort()
    const over = new AbortController()
    const parting = this.#running.then(() => this.#sendLast()).catch(() => undefined)
    await Promise.race([parting, pause(partingMs, undefined, { signal: over.signal }).catch(() => undefined)])
    over.abort()
    this.#hasEnded = true
    this.#close()
  }

  async #run (signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    while (!signal.aborted) {
      if (this.#lines.length === 0 && this.#waiting.length === 0) await this.#waiter.wait(signal)
      await clock.sleep(Math.max(gatherMs, this.#restLeftMs()), signal).catch(() => undefined)
      if (signal.aborted) return
      try {
        this.#socket ??= await this.#connect()
        this.#flush(this.#socket)
      } catch (error) {
        this.#failed(error as Error)
      }
    }
  }

  #restLeftMs (): number {
    return this.#failedMs === undefined ? 0 : this.#failedMs + restMs - this.#deps.clock.monotonicMs()
  }

  /** IPv4 first, as others who send such lines: those who receive them often listen there alone. */
  async #connect (): Promise<Socket> {
    const { address, family } = await lookup(this.#to.host, { order: 'ipv4first' })
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4')
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      // An address that cannot be connected to throws.
      socket.connect(this.#to.port, address, () => {
        socket.removeAllListeners('error')
        socket.on('error', error => this.#failed(error, socket))
        resolve()
      })
    }).catch((error: unknown) => {
      socket.close()
      throw error
    })
    if (this.#hasEnded) socket.close()
    return socket
  }

  #flush (socket: Socket): void {
    const { clock, log } = this.#deps
    if (this.#failedMs !== undefined && clock.monotonicMs() - this.#failedMs >= quietMs) {
      log.info({ to: this.#where(), lost: this.#lost }, 'metrics are taken there again')
      this.#failedMs = undefined
      this.#lost = 0
    }
    this.#seal()
    while (this.#waiting.length > 0 && this.#underWay < mostUnderWay) this.#send(socket, this.#waiting.shift() as Buffer)
  }

  #send (socket: Socket, datagram: Buffer, done: () => void = () => {}): void {
    this.#underWay++
    socket.send(datagram, error => {
      this.#underWay--
      if (error) this.#failed(error, socket)
      done()
    })
  }

  async #sendLast (): Promise<void> {
    this.#seal()
    if (this.#waiting.length === 0) return
    const socket = this.#socket ??= await this.#connect()
    await Promise.all(this.#waiting.splice(0).map(datagram => new Promise<void>(resolve => this.#send(socket, datagram, resolve))))
  }

  #seal (): void {
    if (this.#lines.length === 0) return
    this.#waiting.push(Buffer.from(`${this.#lines.join('\n')}\n`))
    if (this.#waiting.length > mostWaiting) this.#lost += linesOf(this.#waiting.shift() as Buffer)
    this.#lines = []
    this.#bytes = 0
  }

  /** @param socket that failed; an older one says nothing about the one of now */
  #failed (error: Error, socket = this.#socket): void {
    if (socket !== this.#socket) return
    this.#close()
    const { clock, log } = this.#deps
    if (this.#failedMs === undefined) {
      log.warn({ to: this.#where(), reason: error.message }, 'metrics are not taken there: some are lost until they are')
    }
    this.#failedMs = clock.monotonicMs()
  }

  #where (): string { return hostAndPort(this.#to.host, this.#to.port) }

  #close (): void {
    const socket = this.#socket
    this.#socket = undefined
    // What the system says of it from now on is of no interest.
    socket?.removeAllListeners('error').on('error', () => undefined).close()
  }
}

function linesOf (datagram: Buffer): number { return datagram.reduce((lines, byte) => byte === 10 ? lines + 1 : lines, 0) }

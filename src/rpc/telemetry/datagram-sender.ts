import { setTimeout as pause } from 'node:timers/promises'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { Waiter } from '../../runtime/waiter.ts'
import type { DatagramLink, OpenLink } from './datagram-link.ts'

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
  /** Whom it goes to, for people. */
  readonly to: string
  /** Bytes that one datagram has at the most; what is cut into pieces on its way is lost more easily. */
  readonly largest: number
  readonly clock: Clock
  readonly log: Logger
}

/**
 * Sends lines, many in one datagram. It never keeps its caller waiting, and keeps a bounded number of lines: whoever receives may
 * be away at any time, and then some are lost.
 */
export class DatagramSender implements AsyncDisposable {
  readonly #open: OpenLink
  readonly #deps: DatagramSenderDeps
  readonly #waiter = new Waiter()
  readonly #stop = new AbortController()
  readonly #running: Promise<void>
  #lines: string[] = []
  #bytes = 0
  #waiting: Buffer[] = []
  #underWay = 0
  #link: DatagramLink | undefined
  #hasEnded = false
  /** The last time, of somebody who is away. */
  #failedMs: number | undefined
  /** Lines, since the last word about it. */
  #lost = 0

  constructor (open: OpenLink, deps: DatagramSenderDeps) {
    this.#open = open
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
        this.#link ??= await this.#connect()
        this.#flush(this.#link)
      } catch (error) {
        this.#failed(error as Error)
      }
    }
  }

  #restLeftMs (): number {
    return this.#failedMs === undefined ? 0 : this.#failedMs + restMs - this.#deps.clock.monotonicMs()
  }

  async #connect (): Promise<DatagramLink> {
    let link: DatagramLink | undefined = undefined
    link = await this.#open(error => this.#failed(error, link))
    if (this.#hasEnded) link.close()
    return link
  }

  #flush (link: DatagramLink): void {
    const { clock, log } = this.#deps
    if (this.#failedMs !== undefined && clock.monotonicMs() - this.#failedMs >= quietMs) {
      log.info({ to: this.#deps.to, lost: this.#lost }, 'metrics are taken there again')
      this.#failedMs = undefined
      this.#lost = 0
    }
    this.#seal()
    while (this.#link === link && this.#waiting.length > 0 && this.#underWay < mostUnderWay) {
      this.#send(link, this.#waiting.shift() as Buffer)
    }
  }

  #send (link: DatagramLink, datagram: Buffer, done: () => void = () => {}): void {
    this.#underWay++
    link.send(datagram, outcome => {
      this.#underWay--
      if (outcome !== 'sent') this.#lost += linesOf(datagram)
      if (outcome instanceof Error) this.#failed(outcome, link)
      done()
    })
  }

  async #sendLast (): Promise<void> {
    this.#seal()
    if (this.#waiting.length === 0) return
    const link = this.#link ??= await this.#connect()
    await Promise.all(this.#waiting.splice(0).map(datagram => new Promise<void>(resolve => this.#send(link, datagram, resolve))))
  }

  #seal (): void {
    if (this.#lines.length === 0) return
    this.#waiting.push(Buffer.from(`${this.#lines.join('\n')}\n`))
    if (this.#waiting.length > mostWaiting) this.#lost += linesOf(this.#waiting.shift() as Buffer)
    this.#lines = []
    this.#bytes = 0
  }

  /** @param link that failed; an older one says nothing about the one of now */
  #failed (error: Error, link = this.#link): void {
    if (link !== this.#link) return
    this.#close()
    const { clock, log } = this.#deps
    if (this.#failedMs === undefined) {
      log.warn({ to: this.#deps.to, reason: error.message }, 'metrics are not taken there: some are lost until they are')
    }
    this.#failedMs = clock.monotonicMs()
  }

  #close (): void {
    const link = this.#link
    this.#link = undefined
    link?.close()
  }
}

function linesOf (datagram: Buffer): number { return datagram.reduce((lines, byte) => byte === 10 ? lines + 1 : lines, 0) }

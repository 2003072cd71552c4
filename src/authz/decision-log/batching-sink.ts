import { nap } from '../../runtime/nap.ts'
import type { Clock } from '../../runtime/clock.ts'
import { Waiter } from '../../runtime/waiter.ts'
import type { DecisionRecord } from './decision-record.ts'
import type { DecisionSink, SinkObserver } from './sink.ts'

/** How a batch is written; told of what went well and what was given up. Throws for what is to be tried again. */
export interface BatchWriter {
  readonly name: string
  /**
   * Writes as much as it can.
   * @returns how many of the first were dealt with, at least one
   * @throws when none could be, and they should be tried again; a `RetryLater` says when
   */
  write (batch: readonly DecisionRecord[], signal: AbortSignal): Promise<number>
  /** What it takes at all; everything unless there is this. */
  wants? (record: DecisionRecord): boolean
  close? (): Promise<void>
}

export class RetryLater extends Error {
  readonly afterMs: number

  constructor (message: string, afterMs: number) {
    super(message)
    this.afterMs = afterMs
  }
}

export interface BatchLimits {
  /** Decisions that may wait; beyond, they are dropped. 10,000. */
  readonly buffer?: number
  /** Decisions written at once; 500. */
  readonly batch?: number
  /** How long a decision waits for others, in milliseconds; 1,000. */
  readonly flushMs?: number
  /** The shortest and the longest pause after failures, in milliseconds; 1,000 and 60,000. */
  readonly retryMs?: readonly [least: number, most: number]
  /** How long the last attempt may take when the process stops, in milliseconds; 5,000. */
  readonly closeMs?: number
}

/** A bounded queue before a writer: whoever decides never waits for it, whoever reads its metrics sees what was dropped. */
export class BatchingSink implements DecisionSink {
  readonly #writer: BatchWriter
  readonly #clock: Clock
  readonly #observer: SinkObserver
  readonly #limits: Required<BatchLimits>
  #queue: DecisionRecord[] = []
  readonly #waiter = new Waiter()
  /** One for all who wait in turn: each of its own would leave something behind on the signal. */
  #woken: Promise<void> | undefined

  constructor (writer: BatchWriter, clock: Clock, observer: SinkObserver, limits: BatchLimits = {}) {
    this.#writer = writer
    this.#clock = clock
    this.#observer = observer
    this.#limits = { buffer: 10_000, batch: 500, flushMs: 1_000, retryMs: [1_000, 60_000], closeMs: 5_000, ...limits }
  }

  get name (): string { return this.#writer.name }
  get waiting (): number { return this.#queue.length }

  offer (record: DecisionRecord): void {
    if (this.#writer.wants?.(record) === false) return
    const { buffer, batch } = this.#limits
    if (this.#queue.length >= buffer) return this.#observer.dropped(this.name, 'full', 1)
    this.#queue.push(record)
    if (this.#queue.length === 1 || this.#queue.length === batch) this.#waiter.wake()
  }

  async run (signal: AbortSignal): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      try {
        if (this.#queue.length === 0) await this.#wake(signal)
        const { flushMs, batch } = this.#limits
        if (this.#queue.length < batch && failures === 0) await nap(this.#clock, flushMs, this.#wake(signal), signal)
        if (this.#queue.length > 0) await this.#writeSome(signal)
        failures = 0
      } catch (error) {
        if (signal.aborted) break
        this.#observer.failed(this.name, error)
        await this.#pause(error, failures++, signal)
      }
    }
    await this.#end()
  }

  #wake (signal: AbortSignal): Promise<void> {
    this.#woken ??= this.#waiter.wait(signal).then(() => { this.#woken = undefined })
    return this.#woken
  }

  async #writeSome (signal: AbortSignal): Promise<void> {
    const done = await this.#writer.write(this.#queue.slice(0, this.#limits.batch), signal)
    this.#queue.splice(0, done)
  }

  async #pause (error: unknown, failures: number, signal: AbortSignal): Promise<void> {
    const [least, most] = this.#limits.retryMs
    const asked = error instanceof RetryLater ? error.afterMs : 0
    try {
      await this.#clock.sleep(Math.min(most, Math.max(asked, least * 2 ** Math.min(failures, 20))), signal)
    } catch { /* the loop sees that the signal aborted */ }
  }

  /** One last attempt at all of it, in limited time. */
  async #end (): Promise<void> {
    const stop = new AbortController()
    const over = new AbortController()
    const timer = this.#abortLater(stop, over.signal)
    try {
      while (this.#queue.length > 0 && !stop.signal.aborted) await this.#writeSome(stop.signal)
    } catch (error) {
      this.#observer.failed(this.name, error)
    }
    over.abort()
    await timer
    if (this.#queue.length > 0) this.#observer.dropped(this.name, 'stopped', this.#queue.length)
    this.#queue = []
    try {
      await this.#writer.close?.()
    } catch (error) {
      this.#observer.failed(this.name, error)
    }
  }

  async #abortLater (stop: AbortController, over: AbortSignal): Promise<void> {
    try {
      await this.#clock.sleep(this.#limits.closeMs, over)
      stop.abort()
    } catch { /* it was over before */ }
  }
}

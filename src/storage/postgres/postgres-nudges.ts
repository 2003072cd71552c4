import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop, runTasks } from '../../runtime/tasks.ts'
import { LocalNudges, type Nudges } from '../nudges.ts'

const channel = 'assay_changes'
const heartbeatMs = 1_000
/** Without a heartbeat that comes back for so long, nudges are not relied on. */
const silenceMs = 3_000
/** So long without a heartbeat, the connection itself is doubted: what stands in between may have dropped it without a word. */
const deafMs = 10_000
const firstRetryMs = 200
const longestRetryMs = 5_000

export interface PostgresNudgesOptions {
  /** A connection for LISTEN, which does not survive a pooler that lends connections per transaction. */
  readonly openListener: () => Promise<pg.Client>
  /** Runs a statement on any connection. */
  readonly execute: (text: string, payload: string) => Promise<void>
  readonly clock: Clock
  readonly log: Logger
}

/**
 * NOTIFY after commits, LISTEN on a connection of its own. A heartbeat that this process sends itself proves the way: a pooler in
 * between, or a network that swallows packets, would leave LISTEN silent and never say so.
 */
export class PostgresNudges implements Nudges {
  readonly #options: PostgresNudgesOptions
  readonly #local = new LocalNudges()
  readonly #self = randomUUID()
  #heardAtMs = Number.NEGATIVE_INFINITY
  #sending: Promise<void> | undefined
  #again = false

  constructor (options: PostgresNudgesOptions) { this.#options = options }

  get proved (): boolean { return this.#options.clock.monotonicMs() - this.#heardAtMs < silenceMs }

  on (listener: () => void): () => void { return this.#local.on(listener) }

  /** Not within the transaction: NOTIFY there makes commits wait for each other. */
  send (): void {
    this.#local.send()
    if (this.#sending !== undefined) {
      this.#again = true
      return
    }
    this.#again = false
    this.#sending = this.#notify(this.#self).finally(() => {
      this.#sending = undefined
      if (this.#again) this.send()
    })
  }

  async run (signal: AbortSignal): Promise<void> {
    await runTasks(signal, [signal => this.#listen(signal), signal => this.#beat(signal)])
  }

  async #listen (signal: AbortSignal): Promise<void> {
    const { clock, log, openListener } = this.#options
    for (let retryMs = firstRetryMs; ;) {
      try {
        const client = await openListener()
        try {
          const ended = new AbortController()
          client.once('end', () => ended.abort())
          client.on('notification', ({ payload = '' }) => this.#heard(payload))
          await client.query(`listen ${channel}`)
          // What was committed before LISTEN took hold nobody told us.
          this.#local.send()
          retryMs = firstRetryMs
          await this.#whileHeard(AbortSignal.any([signal, ended.signal]))
        } finally {
          // Of a connection that fell silent the end may never come.
          client.end().catch(() => {})
        }
      } catch (error) {
        if (isStop(error, signal)) throw error
        log.debug({ err: error }, 'the database\'s notifications cannot be listened to')
      }
      signal.throwIfAborted()
      // Behind a pooler nothing is ever heard: the server's status says so, the log need not again and again.
      log[this.proved ? 'warn' : 'debug']({ retryInMs: retryMs }, 'lost the connection that tells of changes; polling meanwhile')
      await clock.sleep(retryMs, signal)
      retryMs = Math.min(longestRetryMs, retryMs * 2)
    }
  }

  /** Returns when the signal aborts, or no heartbeat has come for long. */
  async #whileHeard (signal: AbortSignal): Promise<void> {
    const { clock } = this.#options
    const openedMs = clock.monotonicMs()
    while (!signal.aborted && clock.monotonicMs() - Math.max(this.#heardAtMs, openedMs) < deafMs) {
      await clock.sleep(heartbeatMs, signal).catch(() => {})
    }
  }

  async #beat (signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#notify(`beat ${this.#self}`)
      await this.#options.clock.sleep(heartbeatMs, signal)
    }
  }

  #heard (payload: string): void {
    if (payload === `beat ${this.#self}`) this.#heardAtMs = this.#options.clock.monotonicMs()
    else if (!payload.startsWith('beat ') && payload !== this.#self) this.#local.send()
  }

  async #notify (payload: string): Promise<void> {
    try {
      await this.#options.execute(`select pg_notify('${channel}', $1)`, payload)
    } catch (error) {
      this.#options.log.debug({ err: error }, 'a notification could not be sent; other replicas find the change by polling')
    }
  }
}

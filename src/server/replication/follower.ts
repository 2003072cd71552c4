import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop, runTasks } from '../../runtime/tasks.ts'
import type { ChangedState, ChangeLog, Cursor } from '../../storage/change-log.ts'

/** What a log is followed into. Calls come one after the other. */
export interface Followed {
  /** Everything anew, as it is at `cursor` or later. */
  reload (cursor: Cursor): Promise<void>
  /** What changed up to `cursor`. */
  apply (state: ChangedState, cursor: Cursor): Promise<void>
}

export interface FollowerDeps {
  readonly log: ChangeLog
  readonly followed: Followed
  readonly clock: Clock
  readonly logger: Logger
}

/** Nudges tell of changes; looking all the same bounds how old a view can be without anybody noticing. */
const nudgedEveryMs = 1_000
const pollEveryMs = 100

/** Keeps a replica's memory in step with the log: no number is skipped, none is applied twice or out of order. */
export class Follower {
  readonly #deps: FollowerDeps
  #cursor: Cursor
  #freshAtMs: number
  #last: Promise<void> = Promise.resolve()
  #next: Promise<void> | undefined

  private constructor (deps: FollowerDeps, cursor: Cursor, freshAtMs: number) {
    this.#deps = deps
    this.#cursor = cursor
    this.#freshAtMs = freshAtMs
  }

  /** On return everything is loaded. */
  static async open (deps: FollowerDeps): Promise<Follower> {
    const startedMs = deps.clock.monotonicMs()
    const cursor = await deps.log.head()
    await deps.followed.reload(cursor)
    return new Follower(deps, cursor, startedMs)
  }

  get cursor (): Cursor { return this.#cursor }

  /** Whether nudges arrive; otherwise this replica polls. */
  get nudged (): boolean { return this.#deps.log.nudged }

  /** How long ago, at the most, the view was what the database said. */
  get staleMs (): number { return this.#deps.clock.monotonicMs() - this.#freshAtMs }

  /** On return all that was committed before the call is applied. @throws {SpiffeError} `datastore_unavailable` */
  catchUp (): Promise<void> {
    if (this.#next !== undefined) return this.#next
    const round = this.#last.then(() => {
      this.#next = undefined
      return this.#round()
    })
    this.#next = round
    this.#last = round.catch(() => {})
    return round
  }

  /** Follows until the signal aborts. */
  async run (signal: AbortSignal): Promise<void> {
    await runTasks(signal, [signal => this.#deps.log.run(signal), signal => this.#follow(signal)])
  }

  async #follow (signal: AbortSignal): Promise<void> {
    const { log, logger } = this.#deps
    const failing = { since: undefined as number | undefined }
    let wake = Promise.withResolvers<void>()
    const stopListening = log.onNudge(() => wake.resolve())
    try {
      for (;;) {
        await this.#nap(wake.promise, signal)
        wake = Promise.withResolvers<void>()
        try {
          await this.catchUp()
          if (failing.since !== undefined) logger.info({ afterMs: Math.round(this.#now() - failing.since) }, 'following the database again')
          failing.since = undefined
        } catch (error) {
          if (isStop(error, signal)) throw error
          if (failing.since === undefined) logger.warn({ err: error }, 'the database cannot be followed; trying on')
          failing.since ??= this.#now()
        }
      }
    } finally {
      stopListening()
    }
  }

  async #nap (woken: Promise<void>, signal: AbortSignal): Promise<void> {
    const rest = new AbortController()
    const sleep = this.#deps.clock.sleep(this.nudged ? nudgedEveryMs : pollEveryMs, AbortSignal.any([signal, rest.signal]))
    try {
      await Promise.race([woken, sleep.catch((error: unknown) => { if (!rest.signal.aborted) throw error })])
    } finally {
      rest.abort()
    }
    signal.throwIfAborted()
  }

  async #round (): Promise<void> {
    const { log, followed, logger } = this.#deps
    for (;;) {
      const startedMs = this.#now()
      const reading = await log.read(this.#cursor)
      if (reading.kind === 'lost') {
        const cursor = await log.head()
        logger.warn({ from: this.#cursor, to: cursor }, 'the log does not go on from where this replica stands; reading everything anew')
        await followed.reload(cursor)
        this.#cursor = cursor
        continue
      }
      if (reading.cursor.number !== this.#cursor.number) await followed.apply(reading.state, reading.cursor)
      this.#cursor = reading.cursor
      if (!reading.more) {
        this.#freshAtMs = startedMs
        return
      }
    }
  }

  #now (): number { return this.#deps.clock.monotonicMs() }
}

import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { nap } from '../../runtime/nap.ts'
import { isStop, runTasks } from '../../runtime/tasks.ts'
import type { ChangedState, ChangeLog, Cursor } from '../../storage/change-log.ts'

/** What a log is followed into. Calls come one after the other. */
export interface Followed {
  /** Reads everything anew and shows nothing yet. @returns how what was read differs from what is shown */
  reload (): Promise<ChangedState>
  /**
   * Shows the state at `cursor`, exactly.
   * @param anew it follows from a `reload` and not from the state before: it may be older than that, if the database was set back
   */
  apply (state: ChangedState, cursor: Cursor, anew: boolean): Promise<void>
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
  #cursor: Cursor = { epoch: '', number: 0 }
  #freshAtMs = Number.NEGATIVE_INFINITY
  #last: Promise<void> = Promise.resolve()
  #next: Promise<void> | undefined

  private constructor (deps: FollowerDeps) { this.#deps = deps }

  /** On return everything is loaded. */
  static async open (deps: FollowerDeps): Promise<Follower> {
    const follower = new Follower(deps)
    await follower.catchUp()
    return follower
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
        await nap(this.#deps.clock, this.nudged ? nudgedEveryMs : pollEveryMs, wake.promise, signal)
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

  /**
   * Reads to the end of the log before anything is shown: a reading that stops short, as well as a reload, holds rows that are newer than
   * its place, and who was told of them there would not be told when they go.
   */
  async #round (): Promise<void> {
    const { log, followed, logger } = this.#deps
    let pending: ChangedState | undefined
    let anew = false
    for (let from = this.#cursor; ;) {
      const startedMs = this.#now()
      const reading = await log.read(from)
      if (reading.kind === 'lost') {
        from = await log.head()
        if (this.#cursor.epoch !== '') {
          logger.warn({ from: this.#cursor, to: from }, 'the log does not go on from where this replica stands; reading everything anew')
        }
        pending = await followed.reload()
        anew = true
        continue
      }
      from = reading.cursor
      pending = pending === undefined ? reading.state : merge(pending, reading.state)
      if (reading.more) continue
      if (anew || from.number !== this.#cursor.number) await followed.apply(pending, from, anew)
      this.#cursor = from
      this.#freshAtMs = startedMs
      return
    }
  }

  #now (): number { return this.#deps.clock.monotonicMs() }
}

function merge (earlier: ChangedState, later: ChangedState): ChangedState {
  return {
    entries: overlay(earlier.entries, later.entries),
    agents: overlay(earlier.agents, later.agents),
    bundles: overlay(earlier.bundles, later.bundles),
    federation: overlay(earlier.federation, later.federation),
    services: overlay(earlier.services, later.services),
    endpoints: overlay(earlier.endpoints, later.endpoints),
    revocations: overlay(earlier.revocations, later.revocations),
    authorities: earlier.authorities || later.authorities,
    ...later.policies === undefined && earlier.policies === undefined ? {} : { policies: later.policies ?? earlier.policies }
  }
}

function overlay<K, V> (earlier: ReadonlyMap<K, V>, later: ReadonlyMap<K, V>): ReadonlyMap<K, V> {
  if (later.size === 0) return earlier
  const merged = new Map(earlier)
  for (const [key, value] of later) merged.set(key, value)
  return merged
}

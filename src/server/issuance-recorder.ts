import { hash } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { IssuedX509Svid } from '../ca/certificate-authority.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Metrics } from '../runtime/metrics.ts'
import { isStop } from '../runtime/tasks.ts'
import { Waiter } from '../runtime/waiter.ts'
import { codeOf, type SpiffeError } from '../spiffe/errors.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import { refusalOf, type IssuedSvid, type IssuedSvidStore } from '../storage/issued-svid-store.ts'

export interface IssuanceRecorderOptions {
  readonly store: IssuedSvidStore
  readonly replicaId: string
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: Metrics
  /** SVIDs that may wait for a database that is away; beyond that, signing is refused. */
  readonly mostUnwritten?: number
}

/** A few hundred bytes each. */
const usuallyUnwritten = 100_000
const mostPerWrite = 2_000
const retryEveryMs = 1_000

interface Batch {
  readonly svids: readonly IssuedSvid[]
  readonly resolve: (refused: ReadonlyMap<IssuedSvid, 'id' | 'node'>) => void
  readonly reject: (error: unknown) => void
}

/**
 * Records every X509-SVID before it is given out, those that are signed at the same time in one write. While the database is away, which a
 * replica may sign for as long as its view is fresh enough, records wait in memory and are written when it is back.
 */
export class IssuanceRecorder {
  readonly #options: IssuanceRecorderOptions
  readonly #waiter = new Waiter()
  #waiting: Batch[] = []
  #writing = false
  /** Given out already. */
  #unwritten: IssuedSvid[] = []

  constructor (options: IssuanceRecorderOptions) {
    this.#options = options
    options.metrics.gauge({ name: 'issuance_unwritten', help: 'X509-SVIDs given out whose record waits for the database' })
      .collect(() => this.#unwritten.length)
  }

  /** Given out without a record in the database so far. */
  get unwritten (): number { return this.#unwritten.length }

  /**
   * On return the records are durable, or wait for a database that is away.
   * @param agentId the node that asked for them; `undefined`: an operator did
   * @returns for each, in order, why it must not be given out
   * @throws {SpiffeError} `datastore_unavailable` when too many wait already
   */
  async record (issued: readonly IssuedX509Svid[], agentId: SpiffeId | undefined): Promise<ReadonlyArray<SpiffeError | undefined>> {
    if (issued.length === 0) return []
    const issuedAt = this.#options.clock.now()
    const svids = issued.map(svid => this.#recordOf(svid, agentId, issuedAt))
    const { promise, resolve, reject } = Promise.withResolvers<ReadonlyMap<IssuedSvid, 'id' | 'node'>>()
    this.#waiting.push({ svids, resolve, reject })
    if (!this.#writing) void this.#writeAll()
    const refused = await promise
    return svids.map(svid => {
      const why = refused.get(svid)
      return why && refusalOf(svid, why)
    })
  }

  /** For who writes it in a transaction of its own, before the SVID is given out. */
  recordOf (issued: IssuedX509Svid, agentId: SpiffeId): IssuedSvid {
    return this.#recordOf(issued, agentId, this.#options.clock.now())
  }

  /** @throws {SpiffeError} why this one must not be given out */
  async recordOne (issued: IssuedX509Svid, agentId: SpiffeId | undefined): Promise<void> {
    const [refused] = await this.record([issued], agentId)
    if (refused !== undefined) throw refused
  }

  /** Writes what had to wait until the signal aborts, and once more then. */
  async run (signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options
    try {
      for (;;) {
        if (this.#unwritten.length === 0) await this.#waiter.wait(signal)
        await clock.sleep(retryEveryMs, signal)
        await this.#writeLate()
      }
    } catch (error) {
      if (!isStop(error, signal)) throw error
      await this.#writeLate()
      if (this.#unwritten.length > 0) {
        log.error({ svids: this.#unwritten.length }, 'the record of X509-SVIDs is lost: revocations of their nodes will not cover them')
      }
      throw error
    }
  }

  #recordOf ({ id: spiffeId, chain, serialNumber, notAfter }: IssuedX509Svid, agentId: SpiffeId | undefined, issuedAt: Date): IssuedSvid {
    const { replicaId } = this.#options
    return { digest: hash('sha256', chain[0] as Uint8Array), serialNumber, spiffeId, agentId, replicaId, issuedAt, notAfter }
  }

  async #writeAll (): Promise<void> {
    this.#writing = true
    while (this.#waiting.length > 0) {
      // Calls that have come meanwhile are signed first, and share the write.
      await nextTurn()
      const batches: Batch[] = []
      for (let room = mostPerWrite; room > 0 && this.#waiting.length > 0;) {
        const next = this.#waiting.shift() as Batch
        batches.push(next)
        room -= next.svids.length
      }
      const svids = batches.flatMap(batch => batch.svids)
      try {
        const refused = await this.#options.store.record(svids)
        for (const { resolve } of batches) resolve(refused)
      } catch (error) {
        const kept = this.#keep(svids, error)
        for (const { resolve, reject } of batches) {
          if (kept) resolve(new Map())
          else reject(error)
        }
      }
    }
    this.#writing = false
  }

  /** @returns whether the records wait now */
  #keep (svids: readonly IssuedSvid[], error: unknown): boolean {
    const { log, mostUnwritten = usuallyUnwritten } = this.#options
    const code = codeOf(error)
    if (code !== 'datastore_unavailable' && code !== 'datastore_outcome_unknown') return false
    if (this.#unwritten.length + svids.length > mostUnwritten) return false
    if (this.#unwritten.length === 0) {
      log.warn({ err: error }, 'issued X509-SVIDs cannot be recorded; the records wait in memory until the database is back')
    }
    this.#unwritten.push(...svids)
    this.#waiter.wake()
    return true
  }

  async #writeLate (): Promise<void> {
    const { store, log } = this.#options
    const total = this.#unwritten.length
    while (this.#unwritten.length > 0) {
      const svids = this.#unwritten.slice(0, mostPerWrite)
      try {
        await store.recordLate(svids)
      } catch (error) {
        if (codeOf(error) === undefined) throw error
        log.debug({ err: error, svids: this.#unwritten.length }, 'issued X509-SVIDs still cannot be recorded')
        return
      }
      this.#unwritten.splice(0, svids.length)
    }
    if (total > 0) log.info({ svids: total }, 'issued X509-SVIDs whose record waited are recorded')
  }
}

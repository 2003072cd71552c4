import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Clock } from '../runtime/clock.ts'
import type { Counter, Histogram, Metrics } from '../runtime/metrics.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { KeyType } from '../x509/key-type.ts'
import { SigningOrder, type Queued } from './signing-order.ts'

/** What is signed, first things first: an agent that cannot renew loses its node; an SVID that is signed ahead of need can wait. */
const signingKinds = ['agent', 'attestation', 'svid'] as const
export type SigningKind = typeof signingKinds[number]

export interface SigningWork {
  readonly kind: SigningKind
  /** Who asked: an agent's ID, or the address of a caller without one. */
  readonly caller: string
  /** When at the latest the one that this replaces ends. */
  readonly endsBy: Date
  /** The key that signs. */
  readonly keyType: KeyType
}

export interface SigningQueueOptions {
  readonly clock: Clock
  readonly metrics: Metrics
  /** 0 to 1: callers that are turned away together do not come back together. */
  readonly random: () => number
  readonly limits?: SigningLimits
}

export interface SigningLimits {
  /** Signatures that may wait, in units of a P-256 leaf with the check of its request. */
  readonly maxUnits: number
  /** Of one caller. */
  readonly maxUnitsPerCaller: number
  /** Whoever would wait longer is turned away at once: agents give a call 30 s. */
  readonly maxWaitMs: number
}

const defaultSigningLimits: SigningLimits = { maxUnits: 20_000, maxUnitsPerCaller: 4_000, maxWaitMs: 10_000 }

/** CPU of one signature and the check of a request, relative to P-256 (docs/adr/0014-signing-in-slices.md). */
const unitsOf: Readonly<Record<KeyType, number>> = { 'ec-p256': 1, 'ec-p384': 10, 'rsa-2048': 6, 'rsa-4096': 40 }
/** One P-256 leaf after the other holds up the event loop for so many; other keys sign on the thread pool. */
const sliceUnits = 32
/** Slices under way: the thread pool has four threads, this thread is one. */
const slicesOnPool = 4
/** Until it was measured. */
const firstMsPerUnit = 0.2
const shortestRetryMs = 500
const longestRetryMs = 30_000

interface Job extends Queued {
  readonly work: SigningWork
  readonly since: number
  /** Units that wait. */
  units: number
  begun: boolean
  /** Signs the next slice. */
  step (): Promise<void>
  readonly isDone: () => boolean
  readonly fail: (error: unknown) => void
  readonly finish: () => void
}

/**
 * Everything that agents have signed passes here, in slices that leave the event loop to others in between. What waits is bounded; who
 * comes when it is full, or would wait too long, is turned away at once and told when to ask again.
 */
export class SigningQueue {
  readonly #clock: Clock
  readonly #random: () => number
  readonly #limits: SigningLimits
  readonly #order = new SigningOrder<Job>()
  readonly #unitsOfCaller = new Map<string, number>()
  readonly #waited: Histogram<'kind'>
  readonly #shed: Counter<'kind' | 'reason'>
  #units = 0
  #running = 0
  #pumping = false
  #msPerUnit = firstMsPerUnit
  #lastEndMs: number | undefined

  constructor ({ clock, metrics, random, limits = defaultSigningLimits }: SigningQueueOptions) {
    this.#clock = clock
    this.#random = random
    this.#limits = limits
    metrics.gauge({ name: 'signing_queue_units', help: 'Signatures that wait, in units of a P-256 leaf' }).collect(() => this.#units)
    metrics.gauge({ name: 'signing_queue_callers', help: 'Agents and addresses whose signatures wait' })
      .collect(() => this.#unitsOfCaller.size)
    this.#waited = metrics.histogram({ name: 'signing_wait_seconds', help: 'Time until signing began', labels: ['kind'] })
    this.#shed = metrics.counter({ name: 'signing_shed_total', help: 'Calls turned away with a hint', labels: ['kind', 'reason'] })
  }

  /** Units that wait. */
  get units (): number { return this.#units }

  /**
   * Signs items slice by slice, in their order, when their turn comes. Aborting gives the place up.
   * @throws {SpiffeError} `server_overloaded`, with the time after which to ask again
   */
  async sign<Item, Signed> (
    work: SigningWork, items: readonly Item[], signSlice: (slice: readonly Item[]) => Promise<readonly Signed[]>, signal: AbortSignal
  ): Promise<Signed[]> {
    signal.throwIfAborted()
    if (items.length === 0) return []
    const unit = unitsOf[work.keyType]
    this.#admit(work, items.length * unit)
    const sliceSize = Math.max(1, Math.floor(sliceUnits / unit))
    const signed: Signed[] = []
    let next = 0
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const job: Job = {
      work,
      caller: work.caller,
      rank: signingKinds.indexOf(work.kind),
      endsBy: work.endsBy.getTime(),
      since: this.#clock.monotonicMs(),
      units: items.length * unit,
      begun: false,
      sliceCost: () => Math.min(sliceSize, items.length - next) * unit,
      isDone: () => next >= items.length,
      step: async () => {
        const slice = items.slice(next, next + sliceSize)
        next += slice.length
        signed.push(...await signSlice(slice))
      },
      finish: resolve,
      fail: reject
    }
    const leave = () => {
      this.#order.remove(job)
      this.#release(job, job.units)
      reject(signal.reason)
    }
    signal.addEventListener('abort', leave, { once: true })
    try {
      this.#order.add(job)
      this.#pump()
      await promise
      return signed
    } finally {
      signal.removeEventListener('abort', leave)
    }
  }

  /** Cost decides: a batch that does not fit is turned away while a single signature still is let in. */
  #admit (work: SigningWork, units: number): void {
    const { maxUnits, maxUnitsPerCaller, maxWaitMs } = this.#limits
    const ofCaller = this.#unitsOfCaller.get(work.caller) ?? 0
    const waitMs = this.#units * this.#msPerUnit
    // Whoever comes alone is served, however much it asks for.
    if (ofCaller > 0 && ofCaller + units > maxUnitsPerCaller) this.#turnAway(work, 'caller', ofCaller * this.#msPerUnit)
    // A batch that is large in itself finds its place when half of the queue is free.
    if (this.#units > maxUnits / 2 && this.#units + units > maxUnits) this.#turnAway(work, 'full', waitMs)
    if (waitMs > maxWaitMs) {
      const fairMs = this.#unitsBefore(units) * this.#msPerUnit
      if (fairMs > maxWaitMs) this.#turnAway(work, 'wait', fairMs)
    }
    this.#units += units
    this.#unitsOfCaller.set(work.caller, ofCaller + units)
  }

  /** What goes before so many units of a newcomer: of each caller about as much as it asks for itself. */
  #unitsBefore (units: number): number {
    let before = 0
    for (const waiting of this.#unitsOfCaller.values()) before += Math.min(waiting, units + sliceUnits)
    return before
  }

  #turnAway (work: SigningWork, reason: 'caller' | 'full' | 'wait', waitMs: number): never {
    this.#shed.add(1, { kind: work.kind, reason })
    const spread = waitMs * (0.5 + this.#random())
    const retryAfterMs = Math.round(Math.min(longestRetryMs, Math.max(shortestRetryMs * (1 + this.#random()), spread)))
    const why = reason === 'caller' ? 'too much of this caller waits to be signed' : 'too much waits to be signed'
    throw new SpiffeError('server_overloaded', `${why}; ask again in ${retryAfterMs} ms`, { retryAfterMs })
  }

  #release (job: Job, units: number): void {
    job.units -= units
    this.#units -= units
    const left = (this.#unitsOfCaller.get(job.work.caller) ?? 0) - units
    if (left > 0) this.#unitsOfCaller.set(job.work.caller, left)
    else this.#unitsOfCaller.delete(job.work.caller)
  }

  /** Begins what may begin: one slice at a time on this thread, several on the pool. */
  #pump (): void {
    if (this.#pumping) return
    this.#pumping = true
    void this.#pumpOn()
  }

  async #pumpOn (): Promise<void> {
    let spent = 0
    while (this.#running < slicesOnPool) {
      const job = this.#order.take()
      if (job === undefined) break
      spent += job.sliceCost()
      const slice = this.#runSlice(job)
      if (job.work.keyType === 'ec-p256') await slice
      if (spent < sliceUnits) continue
      // Everything else has its turn: sockets, timers, other calls.
      await nextTurn()
      spent = 0
    }
    this.#pumping = false
  }

  async #runSlice (job: Job): Promise<void> {
    const units = job.sliceCost()
    const begin = this.#clock.monotonicMs()
    if (!job.begun) this.#waited.observe((begin - job.since) / 1000, { kind: job.work.kind })
    job.begun = true
    // While slices follow each other, what else the process does counts as well.
    const from = Math.max(begin - 1000, this.#lastEndMs ?? begin)
    this.#running++
    try {
      await job.step()
      if (job.isDone()) job.finish()
    } catch (error) {
      job.fail(error)
      this.#release(job, job.units)
      return
    } finally {
      this.#running--
      const end = this.#clock.monotonicMs()
      this.#msPerUnit += ((end - from) / units - this.#msPerUnit) * Math.min(0.2, units / 160)
      // Cancelled meanwhile: its units are released already.
      this.#release(job, Math.min(units, job.units))
      this.#lastEndMs = this.#units > 0 ? end : undefined
      if (!job.isDone() && job.units > 0) this.#order.add(job)
      this.#pump()
    }
  }
}

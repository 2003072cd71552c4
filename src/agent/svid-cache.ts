import type { KeyObject } from 'node:crypto'
import type { Entry } from '../spiffe/entry.ts'
import type { CertificateDigest } from '../spiffe/revocation.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { X509Svid } from '../spiffe/svid.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { retryAfterMsOf } from '../rpc/rpc-error.ts'
import { createCertificateRequest } from '../x509/certificate-request.ts'
import type { KeptSvid } from './cache/node-cache.ts'
import type { EntryIndex } from './entry-index.ts'
import { HeldSvids } from './held-svids.ts'
import { renewalTimeMs } from './renewal-time.ts'
import { longestSigningPauseMs, SigningFailures } from './signing-failures.ts'
import { asSigningRefusal, generateWorkloadKey, readSvid, type WorkloadKeyType } from './workload-svid.ts'

/** What signs for the cache: a server's BatchNewX509SVID. Items come back in the order asked. */
export interface SvidSigner {
  signX509Svids (orders: readonly { readonly entryId: string, readonly csr: Uint8Array }[], signal: AbortSignal):
  Promise<readonly (readonly Uint8Array[] | SpiffeError)[]>
}

export interface SvidCacheOptions {
  readonly keyType: WorkloadKeyType
  /** Above this many, SVIDs nobody watches are neither fetched ahead nor kept; the least recently used go first. */
  readonly maxSize: number
  /** 0 to 1: spreads renewals. */
  readonly random: () => number
  /** As in `renewalTimeMs`. */
  readonly availabilityMs?: number | undefined
}

/** SPIRE's limit for one BatchNewX509SVID. */
const largestBatch = 500

/** The X509-SVIDs of this node: fetched when an entry appears or changes, renewed at half-life, dropped when their entry goes. */
export class SvidCache {
  readonly #options: SvidCacheOptions
  readonly #clock: Clock
  readonly #log: Logger
  readonly #held = new HeldSvids()
  readonly #failures: SigningFailures
  /** IDs of entries somebody watched, the last one last. */
  readonly #used = new Set<string>()
  /** Half as large after each failure: a server may be too slow for so many at once. */
  #batchSize = largestBatch

  constructor (options: SvidCacheOptions, clock: Clock, log: Logger) {
    this.#options = options
    this.#clock = clock
    this.#log = log
    this.#failures = new SigningFailures(options.random)
  }

  get size (): number { return this.#held.size }
  /** Grows with each SVID that comes or goes. */
  get changes (): number { return this.#held.changes }
  get failedEntryIds (): readonly string[] { return this.#failures.entryIds }

  /** The SVID for this revision of the entry, unless expired. */
  svidOf (entry: Entry): X509Svid | undefined { return this.#held.svidOf(entry, this.#now()) }

  /** As `HeldSvids` says of each. */
  kept (entries: Iterable<Entry>): KeptSvid[] { return this.#held.kept(entries) }
  restore (kept: readonly KeptSvid[], entries: EntryIndex): number { return this.#held.restore(kept, entries, this.#now()) }
  setTainted (keyIds: ReadonlySet<string>): void { this.#held.setTainted(keyIds) }
  setRevoked (digests: ReadonlySet<CertificateDigest>): number { return this.#held.setRevoked(digests) }
  isRevoked (svid: X509Svid): boolean { return this.#held.isRevoked(svid) }

  /** Forgets what has no entry any more. */
  retain (entries: EntryIndex): void {
    const exists = (id: string) => entries.get(id) !== undefined
    this.#held.retain(exists)
    this.#failures.retain(exists)
    for (const id of this.#used) if (!exists(id)) this.#used.delete(id)
  }

  /** Entries that need signing now: watched ones first, then ahead of need up to the limit. What nobody wants is not kept for long. */
  due (watched: ReadonlySet<Entry>, entries: EntryIndex): Entry[] {
    const now = this.#now()
    let room = this.#options.maxSize
    for (const { id, storeSvid } of watched) {
      if (storeSvid) continue
      room--
      this.#used.delete(id)
      this.#used.add(id)
    }
    const ahead = this.#ahead(watched, entries, room, now)
    const wanted = [...watched, ...ahead]
    this.#dropUnwanted(new Set(wanted.map(entry => entry.id)), room - ahead.length, now)
    return wanted.filter(entry => this.#isDue(entry, now))
  }

  /** What is fetched ahead of need, or kept after it: what was wanted last comes first, then what nobody wanted yet. */
  #ahead (watched: ReadonlySet<Entry>, entries: EntryIndex, room: number, now: number): Entry[] {
    const ahead: Entry[] = []
    const optsOut = ({ additionalAttributes, storeSvid }: Entry) => additionalAttributes.disableX509SvidPrefetch || storeSvid
    for (const id of [...this.#used].toReversed()) {
      if (ahead.length >= room) return ahead
      const entry = entries.get(id)
      if (entry === undefined || watched.has(entry) || (optsOut(entry) && this.#isDue(entry, now))) continue
      ahead.push(entry)
    }
    for (const entry of entries.values()) {
      if (ahead.length >= room) break
      if (!this.#used.has(entry.id) && !optsOut(entry)) ahead.push(entry)
    }
    return ahead
  }

  /** An SVID nobody watches any more stays until it would be renewed, for who comes back soon; without `room` it goes at once. */
  #dropUnwanted (wanted: ReadonlySet<string>, room: number, now: number): void {
    let kept = 0
    this.#held.retain((id, renewAtMs) => wanted.has(id) || (renewAtMs > now && ++kept <= room))
    this.#failures.retain(id => wanted.has(id))
  }

  #isDue (entry: Entry, now: number): boolean { return !this.#failures.waits(entry, now) && this.#held.isDue(entry, now) }

  /** When `due` can first have something again, as Unix milliseconds. */
  nextDueMs (): number {
    return Math.min(this.#held.nextMs(this.#now(), id => !this.#failures.has(id)), this.#failures.nextMs())
  }

  /** Signs the given entries in batches; what fails is tried again later with back-off. Calls `onBatch` after each batch. */
  async sign (due: readonly Entry[], signer: SvidSigner, signal: AbortSignal, onBatch: () => void): Promise<void> {
    for (let start = 0, batch: readonly Entry[]; start < due.length; start += batch.length) {
      batch = due.slice(start, start + this.#batchSize)
      const keys = await Promise.all(batch.map(() => generateWorkloadKey(this.#options.keyType)))
      const orders = batch.map((entry, index) => ({ entryId: entry.id, csr: createCertificateRequest(keys[index] as KeyObject) }))
      try {
        const outcomes = await signer.signX509Svids(orders, signal)
        batch.forEach((entry, index) => this.#keep(entry, keys[index] as KeyObject, outcomes[index]))
        this.#batchSize = Math.min(largestBatch, this.#batchSize * 2)
      } catch (error) {
        this.#batchSize = Math.max(1, Math.floor(this.#batchSize / 2))
        // The server is away: asking for the others as well would only take longer to learn it.
        this.#postpone(due.slice(start), error)
        return
      } finally {
        onBatch()
      }
    }
  }

  #keep (entry: Entry, key: KeyObject, outcome: readonly Uint8Array[] | SpiffeError | undefined): void {
    const read = outcome instanceof SpiffeError ? outcome : readSvid(entry, key, outcome)
    // It was on its way when it was revoked.
    const svid = !(read instanceof SpiffeError) && this.isRevoked(read) ? new SpiffeError('svid_revoked', 'it is revoked already') : read
    if (svid instanceof SpiffeError) {
      const retryInMs = this.#failures.add(entry, this.#now())
      this.#log.warn({ entry: entry.id, spiffeId: entry.spiffeId, err: svid, retryInMs }, 'no X509-SVID for this entry')
      return
    }
    this.#failures.delete(entry.id)
    const now = this.#clock.now()
    const renewAtMs = renewalTimeMs(svid, 0.05, this.#options.random(), now, this.#options.availabilityMs)
    this.#held.put({ entry, svid, receivedAtMs: now.getTime(), renewAtMs })
    this.#log.debug({ entry: entry.id, spiffeId: svid.id, expires: svid.notAfter.toISOString() }, 'X509-SVID issued')
  }

  #postpone (entries: readonly Entry[], error: unknown): void {
    const hintMs = retryAfterMsOf(error, longestSigningPauseMs)
    const now = this.#now()
    const retryInMs = entries.reduce((least, entry) => Math.min(least, this.#failures.add(entry, now, hintMs)), longestSigningPauseMs)
    this.#log.warn({ entries: entries.length, err: asSigningRefusal(error), retryInMs }, 'no X509-SVIDs: the server did not sign')
  }

  #now (): number { return this.#clock.now().getTime() }
}

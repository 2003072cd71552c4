import { createPrivateKey, createPublicKey, generateKeyPair, hash, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import type { Entry } from '../spiffe/entry.ts'
import type { CertificateDigest } from '../spiffe/revocation.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { X509Svid } from '../spiffe/svid.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { retryAfterMsOf } from '../rpc/rpc-error.ts'
import { createCertificateRequest } from '../x509/certificate-request.ts'
import { parseCertificate } from '../x509/certificate.ts'
import type { KeptSvid } from './cache/node-cache.ts'
import type { EntryIndex } from './entry-index.ts'
import { renewalTimeMs, wasSetBack } from './renewal-time.ts'
import { rootKeyIdOf } from './tainted-roots.ts'

export type WorkloadKeyType = 'ec-p256' | 'ec-p384' | 'rsa-2048'

/** What signs for the cache: a server's BatchNewX509SVID. Items come back in the order asked. */
export interface SvidSigner {
  signX509Svids (orders: readonly { readonly entryId: string, readonly csr: Uint8Array }[], signal: AbortSignal):
  Promise<readonly (readonly Uint8Array[] | SpiffeError)[]>
}

interface Cached {
  readonly entry: Entry
  readonly svid: X509Svid
  /** Of the root below which it was signed, hex. */
  readonly rootKeyId: string | undefined
  readonly receivedAtMs: number
  readonly renewAtMs: number
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
const retryBaseMs = 500
const retryMaxMs = 60_000

/** The X509-SVIDs of this node: fetched when an entry appears or changes, renewed at half-life, dropped when their entry goes. */
export class SvidCache {
  readonly #options: SvidCacheOptions
  readonly #clock: Clock
  readonly #log: Logger
  readonly #byEntry = new Map<string, Cached>()
  /** IDs of entries somebody watched, the last one last. */
  readonly #used = new Set<string>()
  #changes = 0
  /** Half as large after each failure: a server may be too slow for so many at once. */
  #batchSize = largestBatch
  #taintedKeyIds: ReadonlySet<string> = new Set()
  #revokedDigests: ReadonlySet<CertificateDigest> = new Set()
  /** Entries whose signing failed, so that one bad entry does not make the others wait. */
  readonly #failed = new Map<string, { readonly entry: Entry, readonly times: number, readonly againAtMs: number }>()

  constructor (options: SvidCacheOptions, clock: Clock, log: Logger) {
    this.#options = options
    this.#clock = clock
    this.#log = log
  }

  get size (): number { return this.#byEntry.size }
  /** Grows with each SVID that comes or goes. */
  get changes (): number { return this.#changes }

  /** The SVIDs of these very revisions, to be kept while the agent does not run. */
  kept (entries: Iterable<Entry>): KeptSvid[] {
    const kept: KeptSvid[] = []
    for (const entry of entries) {
      const cached = this.#byEntry.get(entry.id)
      if (cached === undefined || !sameRevision(cached.entry, entry)) continue
      const { svid: { chain, privateKey }, receivedAtMs, renewAtMs } = cached
      kept.push({ entryId: entry.id, chain, privateKey, receivedAtMs, renewAtMs })
    }
    return kept
  }

  /** Takes back what was kept, unless it has expired or is of no use to its entry. @returns how many */
  restore (kept: readonly KeptSvid[], entries: EntryIndex): number {
    for (const { entryId, chain, privateKey, receivedAtMs, renewAtMs } of kept) {
      const entry = entries.get(entryId)
      const svid = entry === undefined ? undefined : restored(entry, chain, privateKey)
      if (entry === undefined || svid === undefined || svid.notAfter <= this.#clock.now() || this.isRevoked(svid)) continue
      this.#put({ entry, svid, rootKeyId: rootKeyIdOf(chain), receivedAtMs, renewAtMs })
    }
    return this.#byEntry.size
  }

  /** The SVID for this revision of the entry, unless expired. */
  svidOf (entry: Entry): X509Svid | undefined {
    const cached = this.#byEntry.get(entry.id)
    return cached !== undefined && sameRevision(cached.entry, entry) && cached.svid.notAfter > this.#clock.now() ? cached.svid : undefined
  }

  get failedEntryIds (): readonly string[] { return [...this.#failed.keys()] }

  /** SVIDs signed below a root that is about to be revoked are replaced at once. @param keyIds of tainted roots, hex */
  setTainted (keyIds: ReadonlySet<string>): void { this.#taintedKeyIds = keyIds }

  /** From now on these certificates are as good as none. @returns how many were held */
  setRevoked (digests: ReadonlySet<CertificateDigest>): number {
    this.#revokedDigests = digests
    if (digests.size === 0) return 0
    const held = [...this.#byEntry].filter(([, { svid }]) => this.isRevoked(svid))
    for (const [id] of held) this.#drop(id)
    return held.length
  }

  isRevoked ({ chain }: X509Svid): boolean {
    return this.#revokedDigests.size > 0 && this.#revokedDigests.has(digestOf(chain))
  }

  /** Forgets what has no entry any more. */
  retain (entries: EntryIndex): void {
    for (const id of this.#byEntry.keys()) if (entries.get(id) === undefined) this.#drop(id)
    for (const ids of [this.#failed, this.#used]) for (const id of ids.keys()) if (entries.get(id) === undefined) ids.delete(id)
  }

  /** Entries that need signing now: watched ones first, then ahead of need up to the limit. What nobody wants is not kept for long. */
  due (watched: ReadonlySet<Entry>, entries: EntryIndex): Entry[] {
    const now = this.#clock.now().getTime()
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
    for (const [id, { renewAtMs }] of this.#byEntry) {
      if (!wanted.has(id) && (renewAtMs <= now || ++kept > room)) this.#drop(id)
    }
    for (const id of this.#failed.keys()) if (!wanted.has(id)) this.#failed.delete(id)
  }

  #isDue (entry: Entry, now: number): boolean {
    const failed = this.#failed.get(entry.id)
    if (failed !== undefined && sameRevision(failed.entry, entry) && failed.againAtMs > now) return false
    const cached = this.#byEntry.get(entry.id)
    return cached === undefined || !sameRevision(cached.entry, entry) || cached.renewAtMs <= now ||
      wasSetBack(cached.receivedAtMs, now) || (cached.rootKeyId !== undefined && this.#taintedKeyIds.has(cached.rootKeyId))
  }

  /** When `due` can first have something again, as Unix milliseconds. */
  nextDueMs (): number {
    const now = this.#clock.now().getTime()
    let next = Number.POSITIVE_INFINITY
    for (const [id, { renewAtMs, svid: { notAfter } }] of this.#byEntry) {
      if (!this.#failed.has(id)) next = Math.min(next, renewAtMs)
      // Its end is an event too: it is withdrawn then. Once.
      if (notAfter.getTime() > now) next = Math.min(next, notAfter.getTime())
    }
    for (const { againAtMs } of this.#failed.values()) next = Math.min(next, againAtMs)
    return next
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
      const retryInMs = this.#fail(entry)
      this.#log.warn({ entry: entry.id, spiffeId: entry.spiffeId, err: svid, retryInMs }, 'no X509-SVID for this entry')
      return
    }
    this.#failed.delete(entry.id)
    const now = this.#clock.now()
    const renewAtMs = renewalTimeMs(svid, 0.05, this.#options.random(), now, this.#options.availabilityMs)
    this.#put({ entry, svid, rootKeyId: rootKeyIdOf(svid.chain), receivedAtMs: now.getTime(), renewAtMs })
    this.#log.debug({ entry: entry.id, spiffeId: svid.id, expires: svid.notAfter.toISOString() }, 'X509-SVID issued')
  }

  #put (cached: Cached): void {
    this.#byEntry.set(cached.entry.id, cached)
    this.#changes++
  }

  #drop (entryId: string): void {
    this.#byEntry.delete(entryId)
    this.#changes++
  }

  #postpone (entries: readonly Entry[], error: unknown): void {
    const hintMs = retryAfterMsOf(error, retryMaxMs)
    const retryInMs = entries.reduce((least, entry) => Math.min(least, this.#fail(entry, hintMs)), retryMaxMs)
    this.#log.warn({ entries: entries.length, err: asRefusal(error), retryInMs }, 'no X509-SVIDs: the server did not sign')
  }

  /** @param hintMs what the server asked for: it knows when it has time. @returns the pause before the next attempt, milliseconds */
  #fail (entry: Entry, hintMs?: number): number {
    const times = (this.#failed.get(entry.id)?.times ?? 0) + 1
    const waitMs = hintMs ?? Math.round(Math.min(retryMaxMs, retryBaseMs * 2 ** (times - 1)) * (0.5 + this.#options.random() / 2))
    this.#failed.set(entry.id, { entry, times, againAtMs: this.#clock.now().getTime() + waitMs })
    return waitMs
  }
}

const digests = new WeakMap<readonly Uint8Array[], CertificateDigest>()

/** Of the leaf; worked out once. */
function digestOf (chain: readonly Uint8Array[]): CertificateDigest {
  const digest = digests.get(chain) ?? hash('sha256', chain[0] ?? '')
  digests.set(chain, digest)
  return digest
}

const generatePair = promisify(generateKeyPair)

async function generateWorkloadKey (type: WorkloadKeyType): Promise<KeyObject> {
  const { privateKey } = type === 'rsa-2048'
    ? await generatePair('rsa', { modulusLength: 2048 })
    : await generatePair('ec', { namedCurve: type === 'ec-p256' ? 'P-256' : 'P-384' })
  return privateKey
}

/** The server is not believed blindly: the leaf must hold our key and the entry's ID. */
function readSvid (entry: Entry, key: KeyObject, chain: readonly Uint8Array[] | undefined): X509Svid | SpiffeError {
  try {
    const leaf = parseCertificate(chain?.[0] ?? new Uint8Array())
    const { privateKey, publicKey } = exportKey(key)
    if (!publicKey.equals(leaf.publicKey)) throw new SpiffeError('x509_svid_invalid', 'the server signed another key')
    if (leaf.uriSans.length !== 1 || leaf.uriSans[0] !== entry.spiffeId) {
      throw new SpiffeError('x509_svid_invalid', `the server signed ${JSON.stringify(leaf.uriSans[0] ?? '')} instead of ${entry.spiffeId}`)
    }
    return { id: entry.spiffeId, chain: chain ?? [], privateKey, notBefore: leaf.notBefore, notAfter: leaf.notAfter, hint: entry.hint }
  } catch (error) {
    return asRefusal(error)
  }
}

/** `undefined` for what does not fit together. */
function restored (entry: Entry, chain: readonly Uint8Array[], privateKey: Uint8Array): X509Svid | undefined {
  try {
    const svid = readSvid(entry, createPrivateKey({ key: Buffer.from(privateKey), format: 'der', type: 'pkcs8' }), chain)
    return svid instanceof SpiffeError ? undefined : svid
  } catch {
    return undefined
  }
}

function exportKey (key: KeyObject): { privateKey: Buffer, publicKey: Buffer } {
  return {
    privateKey: key.export({ format: 'der', type: 'pkcs8' }),
    publicKey: createPublicKey(key).export({ format: 'der', type: 'spki' })
  }
}

function asRefusal (error: unknown): SpiffeError {
  return error instanceof SpiffeError ? error : new SpiffeError('server_unreachable', 'the server did not sign', { cause: error })
}

function sameRevision (a: Entry, b: Entry): boolean {
  return a.revisionNumber === b.revisionNumber && a.createdAtSeconds === b.createdAtSeconds && a.spiffeId === b.spiffeId
}

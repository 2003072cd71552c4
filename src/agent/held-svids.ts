import { hash } from 'node:crypto'
import type { Entry } from '../spiffe/entry.ts'
import type { CertificateDigest } from '../spiffe/revocation.ts'
import type { X509Svid } from '../spiffe/svid.ts'
import type { KeptSvid } from './cache/node-cache.ts'
import type { EntryIndex } from './entry-index.ts'
import { wasSetBack } from './renewal-time.ts'
import { rootKeyIdOf } from './tainted-roots.ts'
import { isSameRevision, restoreSvid } from './workload-svid.ts'

interface HeldSvid {
  readonly entry: Entry
  readonly svid: X509Svid
  readonly receivedAtMs: number
  readonly renewAtMs: number
}

interface RootedSvid extends HeldSvid {
  /** Of the root below which it was signed, hex. */
  readonly rootKeyId: string | undefined
}

/** The X509-SVIDs an agent has, one an entry, and what is known against them. Instants are Unix milliseconds. */
export class HeldSvids {
  readonly #byEntry = new Map<string, RootedSvid>()
  #changes = 0
  #taintedKeyIds: ReadonlySet<string> = new Set()
  #revokedDigests: ReadonlySet<CertificateDigest> = new Set()

  get size (): number { return this.#byEntry.size }
  /** Grows with each SVID that comes or goes. */
  get changes (): number { return this.#changes }

  put (held: HeldSvid): void {
    this.#byEntry.set(held.entry.id, { ...held, rootKeyId: rootKeyIdOf(held.svid.chain) })
    this.#changes++
  }

  #drop (entryId: string): void {
    this.#byEntry.delete(entryId)
    this.#changes++
  }

  /** @param isWanted asked in the order in which SVIDs came first */
  retain (isWanted: (entryId: string, renewAtMs: number) => boolean): void {
    for (const [id, { renewAtMs }] of this.#byEntry) if (!isWanted(id, renewAtMs)) this.#drop(id)
  }

  /** Of this revision of the entry, unless expired. */
  svidOf (entry: Entry, now: number): X509Svid | undefined {
    const held = this.#ofRevision(entry)
    return held !== undefined && held.svid.notAfter.getTime() > now ? held.svid : undefined
  }

  /** Whether this revision of the entry has none, or one that is to be replaced. */
  isDue (entry: Entry, now: number): boolean {
    const held = this.#ofRevision(entry)
    return held === undefined || held.renewAtMs <= now || wasSetBack(held.receivedAtMs, now) ||
      (held.rootKeyId !== undefined && this.#taintedKeyIds.has(held.rootKeyId))
  }

  #ofRevision (entry: Entry): RootedSvid | undefined {
    const held = this.#byEntry.get(entry.id)
    return held !== undefined && isSameRevision(held.entry, entry) ? held : undefined
  }

  /** When one is renewed or ends next; infinite if none. @param renewable those whose renewal counts */
  nextMs (now: number, renewable: (entryId: string) => boolean): number {
    let next = Number.POSITIVE_INFINITY
    for (const [id, { renewAtMs, svid: { notAfter } }] of this.#byEntry) {
      if (renewable(id)) next = Math.min(next, renewAtMs)
      // Its end is an event too: it is withdrawn then. Once.
      if (notAfter.getTime() > now) next = Math.min(next, notAfter.getTime())
    }
    return next
  }

  /** SVIDs signed below a root that is about to be revoked are replaced at once. @param keyIds of tainted roots, hex */
  setTainted (keyIds: ReadonlySet<string>): void { this.#taintedKeyIds = keyIds }

  /** From now on these certificates are as good as none. @returns how many were held */
  setRevoked (digests: ReadonlySet<CertificateDigest>): number {
    this.#revokedDigests = digests
    if (digests.size === 0) return 0
    const revoked = [...this.#byEntry].filter(([, { svid }]) => this.isRevoked(svid))
    for (const [id] of revoked) this.#drop(id)
    return revoked.length
  }

  isRevoked ({ chain }: X509Svid): boolean {
    return this.#revokedDigests.size > 0 && this.#revokedDigests.has(digestOf(chain))
  }

  /** The SVIDs of these very revisions, to be kept while the agent does not run. */
  kept (entries: Iterable<Entry>): KeptSvid[] {
    const kept: KeptSvid[] = []
    for (const entry of entries) {
      const held = this.#ofRevision(entry)
      if (held === undefined) continue
      const { svid: { chain, privateKey }, receivedAtMs, renewAtMs } = held
      kept.push({ entryId: entry.id, chain, privateKey, receivedAtMs, renewAtMs })
    }
    return kept
  }

  /** Takes back what was kept, unless it has expired or is of no use to its entry. @returns how many */
  restore (kept: readonly KeptSvid[], entries: EntryIndex, now: number): number {
    for (const { entryId, chain, privateKey, receivedAtMs, renewAtMs } of kept) {
      const entry = entries.get(entryId)
      const svid = entry === undefined ? undefined : restoreSvid(entry, chain, privateKey)
      if (entry === undefined || svid === undefined || svid.notAfter.getTime() <= now || this.isRevoked(svid)) continue
      this.put({ entry, svid, receivedAtMs, renewAtMs })
    }
    return this.#byEntry.size
  }
}

const digests = new WeakMap<readonly Uint8Array[], CertificateDigest>()

/** Of the leaf; worked out once. */
function digestOf (chain: readonly Uint8Array[]): CertificateDigest {
  const digest = digests.get(chain) ?? hash('sha256', chain[0] ?? '')
  digests.set(chain, digest)
  return digest
}

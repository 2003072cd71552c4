import type { CertificateDigest, RevocationKind } from '../spiffe/revocation.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import { Watchable } from '../runtime/watchable.ts'

/** A revocation as an agent is told of it. */
export interface KnownRevocation {
  readonly id: string
  readonly kind: RevocationKind
  /** The ID in the certificate, the ID that is revoked as a whole, or the node's agent ID. */
  readonly subject: SpiffeId
  /** None for a whole ID, which is denied by its name. */
  readonly certificateDigests: readonly CertificateDigest[]
  readonly expiresAt: Date
}

export interface RevocationChange {
  /** What is not named does not stand any more. */
  readonly whole: boolean
  readonly revocations: ReadonlyMap<string, KnownRevocation>
  readonly removedIds: ReadonlySet<string>
}

/** Whom this node must not let in, whatever certificate shows it and however valid that is. */
export interface RevokedSet {
  /** SHA-256 of leaf certificates in DER, lower-case hex. */
  readonly digests: ReadonlySet<CertificateDigest>
  readonly ids: ReadonlySet<SpiffeId>
  /** Grows with each change. */
  readonly revision: number
}

/** The revocations that this node knows of. They outlive the connection to the server, and restarts with the cache. */
export class Revocations {
  #known: ReadonlyMap<string, KnownRevocation> = new Map()
  readonly #set = new Watchable<RevokedSet>({ digests: new Set(), ids: new Set(), revision: 0 })

  /** By id; another map after each change. */
  get known (): ReadonlyMap<string, KnownRevocation> { return this.#known }
  get current (): RevokedSet { return this.#set.value }

  /** The current set first, then the newest after each change. */
  watch (signal: AbortSignal): AsyncGenerator<RevokedSet, void, undefined> { return this.#set.watch(signal) }

  /** @returns whether anything is different now */
  take ({ whole, revocations, removedIds }: RevocationChange): boolean {
    const known = new Map(whole ? [] : this.#known)
    for (const id of removedIds) known.delete(id)
    for (const [id, revocation] of revocations) known.set(id, revocation)
    if (known.size === 0 && this.#known.size === 0) return false
    this.#show(known)
    return true
  }

  /** Forgets what has expired: where no server says so, the clock does. @returns whether anything has */
  expire (now: Date): boolean {
    if (!this.#known.values().some(({ expiresAt }) => expiresAt <= now)) return false
    this.#show(new Map([...this.#known].filter(([, { expiresAt }]) => expiresAt > now)))
    return true
  }

  #show (known: ReadonlyMap<string, KnownRevocation>): void {
    this.#known = known
    const all = [...known.values()]
    this.#set.set({
      digests: new Set(all.flatMap(({ kind, certificateDigests }) => kind === 'spiffe_id' ? [] : certificateDigests)),
      ids: new Set(all.flatMap(({ kind, subject }) => kind === 'spiffe_id' ? [subject] : [])),
      revision: this.#set.value.revision + 1
    })
  }
}

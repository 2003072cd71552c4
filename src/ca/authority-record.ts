import type { KeyManager } from '../keys/key-manager.ts'
import type { Bundle } from '../spiffe/bundle.ts'

/** X.509 CAs sign X509-SVIDs, JWT keys sign JWT-SVIDs. */
export type AuthorityKind = 'x509' | 'jwt'

/** What the journal keeps: the authorities that sign here, and what an upstream has this trust domain trust. */
export type JournalKind = AuthorityKind | 'upstream-x509' | 'upstream-jwt'

/** Two key slots per kind, so that the next key exists before the present one goes. */
export type Slot = 'A' | 'B'

/** Prepared before it signs, old afterwards; a tainted one's SVIDs are replaced, a revoked one is in no bundle any more. */
export type AuthorityState = 'prepared' | 'active' | 'old' | 'tainted' | 'revoked'

/** One row of the journal: what a restart needs in order to go on with the same authorities. */
export interface AuthorityRecord {
  /** X.509: hex SHA-1 subject key id; of an upstream's: hex SHA-256 of the certificate. JWT: the `kid`. */
  readonly authorityId: string
  readonly kind: JournalKind
  readonly slot: Slot
  readonly state: AuthorityState
  /** X.509 only: the CA certificate, DER; where an upstream signed it, followed by those between it and the upstream's root. */
  readonly certificate?: Uint8Array | undefined
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  readonly notBefore: Date
  /** When it is of no use any more: the soonest end on the way to its root. */
  readonly notAfter: Date
  /** X.509 only: hex subject key id of the upstream's root; absent when the authority is its own root. */
  readonly upstreamAuthorityId?: string | undefined
}

/** What the authorities need of storage: rows kept through restarts. */
export interface AuthorityJournal {
  /** In the order in which they were first saved. */
  list (kind: JournalKind): Promise<readonly AuthorityRecord[]>
  /**
   * Saves rows and what they mean for the trust domain's bundle in one transaction.
   * @param publish pure; gives its argument back when nothing is to change
   * @returns the bundle as it is stored now
   */
  save (records: readonly AuthorityRecord[], publish: (bundle: Bundle) => Bundle): Promise<Bundle>
}

/** How authorities are written: where replicas share them, by who holds the lease, or not at all. */
export interface AuthorityWriter {
  readonly journal: AuthorityJournal
  readonly keys: KeyManager
}

/** X.509 CAs sign X509-SVIDs, JWT keys sign JWT-SVIDs. */
export type AuthorityKind = 'x509' | 'jwt'

/** Two key slots per kind, so that the next key exists before the present one goes. */
export type Slot = 'A' | 'B'

export type AuthorityState = 'prepared' | 'active' | 'old'

/** One row of the journal: what a restart needs in order to go on with the same authorities. */
export interface AuthorityRecord {
  /** X.509: hex SHA-1 subject key id. JWT: the `kid`. */
  readonly authorityId: string
  readonly kind: AuthorityKind
  readonly slot: Slot
  readonly state: AuthorityState
  /** X.509 only: the CA certificate, DER. */
  readonly certificate?: Uint8Array | undefined
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  readonly notBefore: Date
  readonly notAfter: Date
}

/** What the authorities need of storage: rows kept through restarts, a set of rows saved in one transaction. */
export interface AuthorityJournal {
  list (kind: AuthorityKind): Promise<readonly AuthorityRecord[]>
  save (records: readonly AuthorityRecord[]): Promise<void>
}

/** One authority of the CA's journal; its private key is the key manager's. */
export interface StoredAuthority {
  /** X.509: hex subject key id. JWT: the `kid`. */
  readonly authorityId: string
  readonly kind: 'x509' | 'jwt'
  readonly slot: 'A' | 'B'
  readonly state: 'prepared' | 'active' | 'old'
  /** X.509 only: the CA certificate, DER. */
  readonly certificate?: Uint8Array | undefined
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  readonly notBefore: Date
  readonly notAfter: Date
  /** Absent when the authority is its own root. */
  readonly upstreamAuthorityId?: string | undefined
}

/** The CA's journal: which authorities exist and in which state, kept through restarts. */
export interface AuthorityStore {
  /** Ordered by when they were first saved. */
  list (kind: StoredAuthority['kind']): Promise<readonly StoredAuthority[]>
  /** Adds or replaces, by kind and id, all rows or none: a switch from one active authority to the next is never half done. */
  save (authorities: readonly StoredAuthority[]): Promise<void>
  /** Removes authorities in state `old` whose `notAfter` is not after `expiredBy`. @returns what was removed */
  prune (expiredBy: Date): Promise<readonly StoredAuthority[]>
}

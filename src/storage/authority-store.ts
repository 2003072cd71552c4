import type { Bundle } from '../spiffe/bundle.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** One authority of the CA's journal; its private key is the key manager's. */
export interface StoredAuthority {
  /** X.509: hex subject key id; of an upstream's: hex SHA-256 of the certificate. JWT: the `kid`. */
  readonly authorityId: string
  readonly kind: 'x509' | 'jwt' | 'upstream-x509' | 'upstream-jwt'
  readonly slot: 'A' | 'B'
  readonly state: 'prepared' | 'active' | 'old' | 'tainted' | 'revoked'
  /** X.509 only: the CA certificate, DER; where an upstream signed it, followed by those between it and the upstream's root. */
  readonly certificate?: Uint8Array | undefined
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  readonly notBefore: Date
  readonly notAfter: Date
  /** Hex subject key id of the upstream's root; absent when the authority is its own root. */
  readonly upstreamAuthorityId?: string | undefined
  /** The replica whose own authority it is; absent: the trust domain's. */
  readonly owner?: string | undefined
}

/** A change of the trust domain's bundle that belongs to a change of its authorities: both happen, or neither. */
export interface Publication {
  readonly trustDomain: TrustDomain
  /** Pure; gives its argument back when nothing is to change. */
  readonly change: (current: Bundle | undefined) => Bundle
}

/** The CA's journal: which authorities exist and in which state, kept through restarts. */
export interface AuthorityStore {
  /** Ordered by when they were first saved. @param owner a replica's id; the trust domain's authorities unless given */
  list (kind: StoredAuthority['kind'], owner?: string): Promise<readonly StoredAuthority[]>
  /**
   * Adds or replaces, by kind and id, all rows or none: a switch from one active authority to the next is never half done.
   * @returns the published bundle as it is stored now
   */
  save (authorities: readonly StoredAuthority[], publication?: Publication): Promise<Bundle | undefined>
  /**
   * Removes authorities whose `notAfter` is not after `expiredBy`, if they are neither prepared nor active, or are a single replica's.
   * @returns what was removed
   */
  prune (expiredBy: Date): Promise<readonly StoredAuthority[]>
}

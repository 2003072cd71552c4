import type { TrustDomain } from './trust-domain.ts'

/** A CA certificate of a trust domain. */
export interface X509Authority {
  /** DER, exactly one certificate. */
  readonly certificate: Uint8Array
  readonly tainted: boolean
}

/** A key that signs JWT-SVIDs of a trust domain. */
export interface JwtAuthority {
  readonly keyId: string
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  /** When the key stops being published; unknown for foreign keys. */
  readonly expiresAt?: Date | undefined
  readonly tainted: boolean
}

/** The public keys of one trust domain, kept together with its name (TDB-02). Never merged with another's. */
export interface Bundle {
  readonly trustDomain: TrustDomain
  readonly x509Authorities: readonly X509Authority[]
  readonly jwtAuthorities: readonly JwtAuthority[]
  /** `spiffe_sequence`, 64 bits (TDB-07); absent if the publisher gave none. */
  readonly sequenceNumber?: bigint | undefined
  /** `spiffe_refresh_hint`, seconds. */
  readonly refreshHintSeconds?: number | undefined
}

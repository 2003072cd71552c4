import type { SpiffeId } from './spiffe-id.ts'

/** What is revoked: one certificate, whatever has a SPIFFE ID, or a node with all that was issued to it. */
export type RevocationKind = 'svid' | 'spiffe_id' | 'node'

/** SHA-256 of a leaf certificate in DER, lower-case hex. */
export type CertificateDigest = string

/** Something that is not to be trusted any more, though its certificates have not expired. */
export interface Revocation {
  readonly id: string
  readonly kind: RevocationKind
  /** The ID in the certificate, the ID that is revoked, or the node's agent ID. */
  readonly subject: SpiffeId
  /** Of certificates that were issued for it and had not expired. */
  readonly certificateDigests: readonly CertificateDigest[]
  readonly reason: string
  /** Who asked for it. */
  readonly revokedBy: string
  readonly revokedAt: Date
  /** When the last of the certificates expires; for a SPIFFE ID, until when nothing is signed for it. */
  readonly expiresAt: Date
}

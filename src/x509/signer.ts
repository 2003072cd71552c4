import type { KeyType } from './key-type.ts'

/** How an ECDSA signature is written: `der` in X.509, `ieee-p1363` in JWS. RSA has one form and ignores it. */
export type SignatureEncoding = 'der' | 'ieee-p1363'

/** A private key that is used and never seen. ECDSA with SHA-256 or SHA-384 by curve; RSA with PKCS#1 v1.5 and SHA-256. */
export interface Signer {
  readonly type: KeyType
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  /** On the thread pool, or wherever the key is. */
  sign (data: Uint8Array, encoding: SignatureEncoding): Promise<Uint8Array>
  /** The same on this thread; absent when the key is remote. */
  signSync? (data: Uint8Array, encoding: SignatureEncoding): Uint8Array
}

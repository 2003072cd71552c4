import type { KeyType } from '../../x509/key-type.ts'

/** A key as it was made elsewhere. */
export interface CreatedKey {
  /** Names it there for good, e.g. an ARN. */
  readonly location: string
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
}

/**
 * Something elsewhere that makes keys and signs with them: Vault, AWS KMS, a PKCS#11 token. One attempt for each call: `RemoteKeyManager`
 * sets deadlines and tries again. All throw a `SpiffeError`: `key_service_*`; none may show a secret in a message, a detail or a cause.
 */
export interface KeyService extends AsyncDisposable {
  /** That of the plugin; rows of the database that name another are left alone. */
  readonly name: string
  /** @param name of `A-Z a-z 0-9 . _ -`, used by no other key */
  create (name: string, type: KeyType, signal: AbortSignal): Promise<CreatedKey>
  /** @throws {SpiffeError} `key_service_key_gone` when it is no more, or will be no more soon */
  publicKeyOf (location: string, signal: AbortSignal): Promise<Uint8Array>
  /**
   * @param digest SHA-384 for `ec-p384`, else SHA-256
   * @returns ECDSA in DER, RSA with PKCS#1 v1.5; nobody has to have looked at it
   */
  sign (location: string, type: KeyType, digest: Uint8Array, signal: AbortSignal): Promise<Uint8Array>
  /** Nothing happens when there is no such key. */
  remove (location: string, signal: AbortSignal): Promise<void>
}

/**
 * A key-encryption key that is kept elsewhere and never comes here: it encrypts 32 bytes at a time. One attempt for each call: who calls
 * sets deadlines and tries again. All throw a `SpiffeError`: `key_service_*`; none may show a secret in a message, a detail or a cause.
 */
export interface KeyEncryptionService extends AsyncDisposable {
  /** In rows: what another one has wrapped is told from what was changed. 1 to 100 of `a-z 0-9 _`. */
  readonly name: string
  /** @returns at most 4 KiB */
  encrypt (dataKey: Uint8Array, signal: AbortSignal): Promise<Uint8Array>
  /** @throws {SpiffeError} besides, `key_encryption_key_invalid` when it was encrypted under another key, or was changed since */
  decrypt (wrapped: Uint8Array, signal: AbortSignal): Promise<Uint8Array>
}

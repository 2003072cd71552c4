import type { KeyType } from '../x509/key-type.ts'
import type { Signer } from '../x509/signer.ts'

/** A key that a key manager holds; it can be used for signing, not taken out. */
export interface ManagedKey extends Signer {
  /** E.g. `x509-CA-A`. */
  readonly id: string
}

export interface KeyManager extends AsyncDisposable {
  readonly ids: readonly string[]
  /**
   * Makes a key, in place of the one that had this ID; on return it is as durable as this manager makes keys.
   * Whoever still holds the old key may go on signing with it. After a failure the old key is still the one that is kept.
   * @throws {SpiffeError} `argument_invalid` for an ID that is not 1 to 255 of `A-Z a-z 0-9 . _ -`; `file_unusable`, `key_store_changed`
   */
  generateKey (id: string, type: KeyType): Promise<ManagedKey>
  getKey (id: string): ManagedKey | undefined
  /** Nothing happens when there is no such key. Throws as `generateKey` does. */
  deleteKey? (id: string): Promise<void>
}

/** What all replicas see under a key's ID: a wrapped private key, or where a key is that is kept elsewhere. */
export interface SharedKeyRows {
  list (): Promise<ReadonlyMap<string, Uint8Array>>
  put (id: string, row: Uint8Array): Promise<void>
  delete (id: string): Promise<void>
}

/** The same keys for all replicas. Only their root's and the JWT key's: replicas sign X509-SVIDs with an intermediate each. */
export interface SharedKeyManager extends KeyManager {
  /** The same keys, written through another view of the rows: the lease holder's. */
  on (rows: SharedKeyRows): SharedKeyManager
  /** Reads what other replicas wrote. What has to be asked for elsewhere, and is slow there, comes later. */
  reload (): Promise<void>
  /** `listener` runs when keys have come that a `reload` did not wait for. Absent where none come late. */
  onArrived? (listener: () => Promise<void>): void
}

export function isShared (keys: KeyManager): keys is SharedKeyManager {
  return 'reload' in keys
}

import { SpiffeError } from '../../spiffe/errors.ts'
import type { KeyType } from '../../x509/key-type.ts'
import type { KeyManager, ManagedKey } from '../key-manager.ts'
import { checkKeyId, holdKey, type HeldKey } from '../local-key-manager.ts'
import { exportPrivateKey, generatePrivateKey, parsePrivateKey } from '../private-key.ts'
import { unwrapKey, wrapKey, type KeyEncryptionKey } from './key-wrapping.ts'

/** Where wrapped keys are kept: what every replica sees. */
export interface WrappedKeys {
  list (): Promise<ReadonlyMap<string, Uint8Array>>
  put (id: string, wrapped: Uint8Array): Promise<void>
  delete (id: string): Promise<void>
}

/** Private keys that all replicas share: in the database, wrapped under a key that each replica gets from outside it. */
export class DatabaseKeyManager implements KeyManager {
  readonly #store: WrappedKeys
  readonly #wrapping: KeyEncryptionKey
  readonly #keys: Map<string, HeldKey>

  private constructor (store: WrappedKeys, wrapping: KeyEncryptionKey, keys: Map<string, HeldKey>) {
    this.#store = store
    this.#wrapping = wrapping
    this.#keys = keys
  }

  /** @throws {SpiffeError} `key_encryption_key_invalid` when it is not the one the stored keys are wrapped under */
  static async open (store: WrappedKeys, wrapping: KeyEncryptionKey): Promise<DatabaseKeyManager> {
    const manager = new DatabaseKeyManager(store, wrapping, new Map())
    await manager.reload()
    return manager
  }

  /** The same keys, written through another view of the store: the lease holder's. */
  on (store: WrappedKeys): DatabaseKeyManager { return new DatabaseKeyManager(store, this.#wrapping, this.#keys) }

  get ids (): readonly string[] { return [...this.#keys.keys()] }

  getKey (id: string): ManagedKey | undefined { return this.#keys.get(id)?.managed }

  /** Reads what other replicas wrote. */
  async reload (): Promise<void> {
    const stored = await this.#store.list()
    for (const id of this.#keys.keys()) if (!stored.has(id)) this.#keys.delete(id)
    for (const [id, wrapped] of stored) {
      const key = parsePrivateKey(unwrapKey(wrapped, id, this.#wrapping))
      if (key === undefined) throw new SpiffeError('key_store_corrupt', `the database holds no usable key under ${JSON.stringify(id)}`)
      const held = holdKey(id, key)
      // A key that did not change stays the object it was: whoever holds it goes on.
      if (Buffer.compare(held.managed.publicKey, this.#keys.get(id)?.managed.publicKey ?? new Uint8Array()) !== 0) this.#keys.set(id, held)
    }
  }

  async generateKey (id: string, type: KeyType): Promise<ManagedKey> {
    checkKeyId(id)
    const held = holdKey(id, await generatePrivateKey(type))
    await this.#store.put(id, wrapKey(exportPrivateKey(held.privateKey), id, this.#wrapping))
    this.#keys.set(id, held)
    return held.managed
  }

  async deleteKey (id: string): Promise<void> {
    await this.#store.delete(id)
    this.#keys.delete(id)
  }

  async [Symbol.asyncDispose] (): Promise<void> {}
}

import { SpiffeError } from '../../spiffe/errors.ts'
import type { KeyType } from '../../x509/key-type.ts'
import type { ManagedKey, SharedKeyManager, SharedKeyRows } from '../key-manager.ts'
import { isKeyReference } from '../key-reference.ts'
import { checkKeyId, holdKey, type HeldKey } from '../local-key-manager.ts'
import { exportPrivateKey, generatePrivateKey, parsePrivateKey } from '../private-key.ts'
import { unwrapKey, wrapKey, type KeyEncryptionKey } from './key-wrapping.ts'

/** Private keys that all replicas share: in the database, wrapped under a key that each replica gets from outside it. */
export class DatabaseKeyManager implements SharedKeyManager {
  readonly #store: SharedKeyRows
  readonly #wrapping: KeyEncryptionKey
  readonly #keys: Map<string, HeldKey>
  #closed = false

  private constructor (store: SharedKeyRows, wrapping: KeyEncryptionKey, keys: Map<string, HeldKey>) {
    this.#store = store
    this.#wrapping = wrapping
    this.#keys = keys
  }

  /** @throws {SpiffeError} `key_encryption_key_invalid` when it is not the one the stored keys are wrapped under */
  static async open (store: SharedKeyRows, wrapping: KeyEncryptionKey): Promise<DatabaseKeyManager> {
    const manager = new DatabaseKeyManager(store, wrapping, new Map())
    await manager.reload()
    return manager
  }

  on (store: SharedKeyRows): DatabaseKeyManager { return new DatabaseKeyManager(store, this.#wrapping, this.#keys) }

  get ids (): readonly string[] { return [...this.#keys.keys()] }

  getKey (id: string): ManagedKey | undefined { return this.#keys.get(id)?.managed }

  async reload (): Promise<void> {
    const stored = await this.#store.list()
    for (const id of this.#keys.keys()) if (!stored.has(id)) this.#keys.delete(id)
    for (const [id, wrapped] of stored) {
      if (isKeyReference(wrapped)) {
        this.#keys.delete(id)
        continue
      }
      const key = parsePrivateKey(unwrapKey(wrapped, id, this.#wrapping))
      if (key === undefined) throw new SpiffeError('key_store_corrupt', `the database holds no usable key under ${JSON.stringify(id)}`)
      const held = holdKey(id, key)
      // A key that did not change stays the object it was: whoever holds it goes on.
      if (Buffer.compare(held.managed.publicKey, this.#keys.get(id)?.managed.publicKey ?? new Uint8Array()) !== 0) this.#keys.set(id, held)
    }
  }

  async generateKey (id: string, type: KeyType): Promise<ManagedKey> {
    checkKeyId(id)
    if (this.#closed) throw new SpiffeError('server_stopping', 'the key manager is closed')
    const held = holdKey(id, await generatePrivateKey(type))
    await this.#store.put(id, wrapKey(exportPrivateKey(held.privateKey), id, this.#wrapping))
    this.#keys.set(id, held)
    return held.managed
  }

  async deleteKey (id: string): Promise<void> {
    await this.#store.delete(id)
    this.#keys.delete(id)
  }

  async [Symbol.asyncDispose] (): Promise<void> { this.#closed = true }
}

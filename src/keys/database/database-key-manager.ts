import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { KeyType } from '../../x509/key-type.ts'
import type { ManagedKey, SharedKeyManager, SharedKeyRows } from '../key-manager.ts'
import { checkKeyId, holdKey } from '../local-key-manager.ts'
import { exportPrivateKey, generatePrivateKey } from '../private-key.ts'
import type { KeyWrapping } from './key-wrapping.ts'
import { UnwrappedKeys } from './unwrapped-keys.ts'

/** Private keys that all replicas share: in the database, wrapped under a key that each replica gets from outside it. */
export class DatabaseKeyManager implements SharedKeyManager {
  readonly #store: SharedKeyRows
  readonly #keys: UnwrappedKeys

  private constructor (store: SharedKeyRows, keys: UnwrappedKeys) {
    this.#store = store
    this.#keys = keys
  }

  /** @throws {SpiffeError} `key_encryption_key_invalid` when it is not the one the stored keys are wrapped under; `key_service_*` */
  static async open (
    store: SharedKeyRows, wrapping: KeyWrapping, options: { readonly clock: Clock, readonly log: Logger }
  ): Promise<DatabaseKeyManager> {
    const keys = new UnwrappedKeys(wrapping, options)
    try {
      await keys.open(await store.list())
    } catch (error) {
      await keys[Symbol.asyncDispose]()
      throw error
    }
    return new DatabaseKeyManager(store, keys)
  }

  on (store: SharedKeyRows): DatabaseKeyManager { return new DatabaseKeyManager(store, this.#keys) }

  get ids (): readonly string[] { return this.#keys.ids }

  getKey (id: string): ManagedKey | undefined { return this.#keys.get(id)?.managed }

  async reload (): Promise<void> { await this.#keys.follow(await this.#store.list()) }

  onArrived (listener: () => Promise<void>): void { this.#keys.onArrived(listener) }

  async generateKey (id: string, type: KeyType): Promise<ManagedKey> {
    checkKeyId(id)
    if (this.#keys.closed) throw new SpiffeError('server_stopping', 'the key manager is closed')
    const held = holdKey(id, await generatePrivateKey(type))
    const row = await this.#keys.wrapping.wrap(exportPrivateKey(held.privateKey), id)
    await this.#store.put(id, row)
    this.#keys.set(id, row, held)
    return held.managed
  }

  async deleteKey (id: string): Promise<void> {
    await this.#store.delete(id)
    this.#keys.delete(id)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#keys[Symbol.asyncDispose]() }
}

import type { KeyObject } from 'node:crypto'
import { SpiffeError } from '../spiffe/errors.ts'
import type { KeyType } from '../x509/key-type.ts'
import { signerOf } from '../x509/private-key-signer.ts'
import type { KeyManager, ManagedKey } from './key-manager.ts'
import { generatePrivateKey } from './private-key.ts'

/** A private key beside what is shown of it. */
export interface HeldKey { readonly managed: ManagedKey, readonly privateKey: KeyObject }
export type HeldKeys = ReadonlyMap<string, HeldKey>

/** Keeps keys in memory; `save` gets the whole set before a change shows. Changes happen one after the other. */
export class LocalKeyManager implements KeyManager {
  #keys: HeldKeys
  readonly #save: (keys: HeldKeys) => Promise<void>
  #lastChange: Promise<void> = Promise.resolve()
  #closed = false

  constructor (keys: HeldKeys, save: (keys: HeldKeys) => Promise<void>) {
    this.#keys = keys
    this.#save = save
  }

  get ids (): readonly string[] { return [...this.#keys.keys()] }

  getKey (id: string): ManagedKey | undefined { return this.#keys.get(id)?.managed }

  async generateKey (id: string, type: KeyType): Promise<ManagedKey> {
    checkKeyId(id)
    const key = holdKey(id, await generatePrivateKey(type))
    await this.#change(keys => keys.set(id, key))
    return key.managed
  }

  async deleteKey (id: string): Promise<void> {
    await this.#change(keys => keys.delete(id))
  }

  /** Waits for changes under way; later ones are refused. */
  async [Symbol.asyncDispose] (): Promise<void> {
    this.#closed = true
    await this.#lastChange
  }

  async #change (edit: (keys: Map<string, HeldKey>) => unknown): Promise<void> {
    if (this.#closed) throw new SpiffeError('server_stopping', 'the key manager is closed')
    const change = this.#lastChange.then(async () => {
      const keys = new Map(this.#keys)
      if (edit(keys) === false) return
      await this.#save(keys)
      this.#keys = keys
    })
    this.#lastChange = change.catch(() => {})
    await change
  }
}

/** @param privateKey of a `KeyType` */
export function holdKey (id: string, privateKey: KeyObject): HeldKey {
  return { managed: { id, ...signerOf(privateKey) }, privateKey }
}

/** @throws {SpiffeError} `argument_invalid` */
export function checkKeyId (id: string): string {
  if (isKeyId(id)) return id
  throw new SpiffeError('argument_invalid', `key ID ${JSON.stringify(id.slice(0, 255))} is not 1 to 255 of A-Z a-z 0-9 . _ -`)
}

export function isKeyId (id: string): boolean {
  return /^[A-Za-z0-9._-]{1,255}$/.test(id)
}

import { unwrapKey, wrapKey, type KeyEncryptionKey, type KeyWrapping } from './key-wrapping.ts'

/** Under a key-encryption key that is here, from a file or a credential. */
export class LocalWrapping implements KeyWrapping {
  readonly #key: KeyEncryptionKey

  constructor (key: KeyEncryptionKey) { this.#key = key }

  async wrap (privateKey: Uint8Array, id: string): Promise<Uint8Array> { return wrapKey(privateKey, id, this.#key) }
  async unwrap (row: Uint8Array, id: string): Promise<Uint8Array> { return unwrapKey(row, id, this.#key) }
  async [Symbol.asyncDispose] (): Promise<void> {}
}

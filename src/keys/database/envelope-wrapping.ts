import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { RemoteCalls } from '../remote/remote-calls.ts'
import type { KeyEncryptionService } from './key-encryption-service.ts'
import type { KeyWrapping } from './key-wrapping.ts'

/** Of a row; those that a key here has wrapped have another one. */
const version = 2
const dataKeyBytes = 32
const nonceBytes = 12
const tagBytes = 16
const longestWrapped = 4_096

/**
 * Under a key-encryption key that is elsewhere. Each private key has a data key of its own, which lies beside it in the row, encrypted
 * there: one call when a key is made and one when a replica first sees it. As keys of authorities are replaced in turn, a key-encryption
 * key that was rotated there wraps all of them after one `ca_ttl`.
 *
 * A row: version, length (8 bits) and name of the service, length (16 bits) and encrypted data key, nonce, AES-256-GCM, tag.
 */
export class EnvelopeWrapping implements KeyWrapping {
  readonly #service: KeyEncryptionService
  readonly #calls: RemoteCalls
  readonly #before: KeyWrapping | undefined

  /** @param before unwraps rows of a key-encryption key that was here, until no key is wrapped under it any more */
  constructor (service: KeyEncryptionService, calls: RemoteCalls, before?: KeyWrapping) {
    this.#service = service
    this.#calls = calls
    this.#before = before
  }

  /** Proves that what is wrapped can be unwrapped. @throws {SpiffeError} `key_service_*`, `key_encryption_key_invalid` */
  async check (): Promise<void> {
    const probe = randomBytes(16)
    if (probe.equals(await this.unwrap(await this.wrap(probe, 'probe'), 'probe'))) return
    throw new SpiffeError('key_encryption_key_invalid', `${this.#service.name} decrypts to something else than it has encrypted`)
  }

  async wrap (privateKey: Uint8Array, id: string): Promise<Uint8Array> {
    const dataKey = randomBytes(dataKeyBytes)
    const wrapped = await this.#calls.again('wrap', signal => this.#service.encrypt(dataKey, signal))
    if (wrapped.length === 0 || wrapped.length > longestWrapped) {
      throw new SpiffeError('key_service_malformed', `${this.#service.name} encrypts ${dataKeyBytes} bytes to ${wrapped.length}`)
    }
    const name = Buffer.from(this.#service.name)
    const nonce = randomBytes(nonceBytes)
    const cipher = createCipheriv('aes-256-gcm', dataKey, nonce).setAAD(Buffer.from(id))
    return Buffer.concat([
      Buffer.of(version, name.length), name, Buffer.of(wrapped.length >> 8, wrapped.length & 0xff), wrapped,
      nonce, cipher.update(privateKey), cipher.final(), cipher.getAuthTag()
    ])
  }

  async unwrap (row: Uint8Array, id: string): Promise<Uint8Array> {
    if (row[0] !== version && this.#before !== undefined) return await this.#before.unwrap(row, id)
    const { wrapped, nonce, sealed, tag } = this.#read(row, id)
    const dataKey = await this.#calls.again('unwrap', signal => this.#service.decrypt(wrapped, signal))
    try {
      const decipher = createDecipheriv('aes-256-gcm', dataKey, nonce, { authTagLength: tagBytes }).setAAD(Buffer.from(id)).setAuthTag(tag)
      return Buffer.concat([decipher.update(sealed), decipher.final()])
    } catch (error) {
      throw new SpiffeError('key_encryption_key_invalid', `the stored key ${JSON.stringify(id)} was changed since it was wrapped`, {
        cause: error
      })
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    await this.#calls.close()
    await this.#service[Symbol.asyncDispose]()
    await this.#before?.[Symbol.asyncDispose]()
  }

  #read (row: Uint8Array, id: string) {
    const bytes = Buffer.from(row)
    const [first, nameLength = 0] = bytes
    const name = bytes.subarray(2, 2 + nameLength).toString('latin1')
    const wrappedAt = 4 + nameLength
    const sealedAt = wrappedAt + (bytes.length < wrappedAt ? longestWrapped : bytes.readUInt16BE(wrappedAt - 2)) + nonceBytes
    const by = first === version ? name : 'a key-encryption key from a file'
    if (by !== this.#service.name || bytes.length <= sealedAt + tagBytes) {
      throw new SpiffeError('key_encryption_key_invalid',
        `the stored key ${JSON.stringify(id)} is wrapped by ${/^[\w -]+$/.test(by) ? by : 'something else'}, not by ${this.#service.name}`)
    }
    return {
      wrapped: bytes.subarray(wrappedAt, sealedAt - nonceBytes), nonce: bytes.subarray(sealedAt - nonceBytes, sealedAt),
      sealed: bytes.subarray(sealedAt, -tagBytes), tag: bytes.subarray(-tagBytes)
    }
  }
}

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { SpiffeError } from '../../spiffe/errors.ts'

const version = 1
const nonceBytes = 12
const tagBytes = 16

/** A key-encryption key: 256 bits for AES-GCM. Secret. */
export type KeyEncryptionKey = Uint8Array & { readonly length: 32 }

/** Encrypts private keys for the database, and back. `id` is bound to what is wrapped: no row passes for another. */
export interface KeyWrapping extends AsyncDisposable {
  wrap (privateKey: Uint8Array, id: string): Promise<Uint8Array>
  /** @throws {SpiffeError} `key_encryption_key_invalid` when it was wrapped under another key, or was changed since */
  unwrap (row: Uint8Array, id: string): Promise<Uint8Array>
}

/**
 * Reads a key-encryption key: 32 bytes as they are, in hexadecimal or in base64, white space around it ignored.
 * @throws {SpiffeError} `key_encryption_key_invalid`; the message never quotes it
 */
export function parseKeyEncryptionKey (content: Uint8Array): KeyEncryptionKey {
  if (content.length === 32) return Uint8Array.from(content) as KeyEncryptionKey
  const text = Buffer.from(content).toString('latin1').trim()
  const encoding = /^[0-9a-fA-F]{64}$/.test(text) ? 'hex' : /^[A-Za-z0-9+/]{43}=$/.test(text) ? 'base64' : undefined
  if (encoding === undefined) {
    throw new SpiffeError('key_encryption_key_invalid', 'a key-encryption key is 32 bytes, as they are, in hexadecimal or in base64')
  }
  return Uint8Array.from(Buffer.from(text, encoding)) as KeyEncryptionKey
}

/** Encrypts a private key for the database. `id` is bound to it: no row passes for another. */
export function wrapKey (privateKey: Uint8Array, id: string, key: KeyEncryptionKey): Uint8Array {
  const nonce = randomBytes(nonceBytes)
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(id))
  return Buffer.concat([Buffer.of(version), nonce, cipher.update(privateKey), cipher.final(), cipher.getAuthTag()])
}

/** @throws {SpiffeError} `key_encryption_key_invalid` when it was wrapped under another key, or was changed since */
export function unwrapKey (wrapped: Uint8Array, id: string, key: KeyEncryptionKey): Uint8Array {
  try {
    if (wrapped[0] !== version || wrapped.length <= 1 + nonceBytes + tagBytes) throw new Error('unknown form')
    const decipher = createDecipheriv('aes-256-gcm', key, wrapped.subarray(1, 1 + nonceBytes), { authTagLength: tagBytes })
      .setAAD(Buffer.from(id)).setAuthTag(wrapped.subarray(-tagBytes))
    return Buffer.concat([decipher.update(wrapped.subarray(1 + nonceBytes, -tagBytes)), decipher.final()])
  } catch (error) {
    const name = JSON.stringify(id)
    throw new SpiffeError('key_encryption_key_invalid', `the stored key ${name} is not wrapped under this one`, { cause: error })
  }
}

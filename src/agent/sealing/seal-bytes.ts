import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { SpiffeError } from '../../spiffe/errors.ts'

/** Of a sealing key, which is made by `randomBytes`. */
export const sealingKeyBytes = 32
const nonceBytes = 12
const tagBytes = 16

/** AES-256-GCM. @returns nonce, ciphertext, tag */
export function sealBytes (key: Uint8Array, bytes: Uint8Array, context: string): Uint8Array {
  const nonce = randomBytes(nonceBytes)
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(context))
  return Buffer.concat([nonce, cipher.update(bytes), cipher.final(), cipher.getAuthTag()])
}

/** @throws {SpiffeError} `cache_unusable` */
export function openBytes (key: Uint8Array, sealed: Uint8Array, context: string): Uint8Array {
  if (sealed.length < nonceBytes + tagBytes) throw new SpiffeError('cache_unusable', 'it is cut short')
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, nonceBytes))
    decipher.setAAD(Buffer.from(context)).setAuthTag(sealed.subarray(-tagBytes))
    return Buffer.concat([decipher.update(sealed.subarray(nonceBytes, -tagBytes)), decipher.final()])
  } catch (error) {
    throw new SpiffeError('cache_unusable', 'it was changed, or sealed with another key', { cause: error })
  }
}

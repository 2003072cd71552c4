import { createPrivateKey, createPublicKey, generateKeyPair, verify, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import type { KeyType } from '../x509/key-type.ts'
import { signerOf } from '../x509/private-key-signer.ts'

const generate = promisify(generateKeyPair)

/** On the thread pool: an RSA key takes seconds. */
export async function generatePrivateKey (type: KeyType): Promise<KeyObject> {
  const { privateKey } = type === 'ec-p256' || type === 'ec-p384'
    ? await generate('ec', { namedCurve: type === 'ec-p256' ? 'P-256' : 'P-384' })
    : await generate('rsa', { modulusLength: type === 'rsa-2048' ? 2048 : 4096 })
  return privateKey
}

/**
 * Reads a private key and proves that it works: what it signs verifies under its public key.
 * @param pkcs8 DER, without anything after it
 * @returns `undefined` when it is no such key, or of no `KeyType`
 */
export function parsePrivateKey (pkcs8: Uint8Array): KeyObject | undefined {
  try {
    if (pkcs8.length !== lengthOfDer(pkcs8)) return undefined
    const key = createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' })
    const probe = Buffer.from('key self-test')
    const signature = signerOf(key).signSync?.(probe, 'der') ?? new Uint8Array()
    const digest = key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'sha384' : 'sha256'
    return verify(digest, probe, createPublicKey(key), signature) ? key : undefined
  } catch {
    return undefined
  }
}

/** PKCS#8, DER. Secret. */
export function exportPrivateKey (key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'pkcs8' })
}

/** Of the outermost element, its header included; OpenSSL overlooks what follows. Keys of ours need two length bytes at most. */
function lengthOfDer (der: Uint8Array): number {
  const [, first = 0, second = 0, third = 0] = der
  if (first < 0x80) return 2 + first
  return first === 0x81 ? 3 + second : first === 0x82 ? 4 + second * 256 + third : -1
}

import { createPublicKey, hash, verify, type KeyObject } from 'node:crypto'
import { SpiffeError } from '../../spiffe/errors.ts'
import { ieeeP1363Of } from '../../x509/ecdsa-signature.ts'
import type { KeyType } from '../../x509/key-type.ts'
import { parsePublicKey } from '../../x509/public-key.ts'
import type { Signer } from '../../x509/signer.ts'
import type { KeyReference } from '../key-reference.ts'

const names: Readonly<Record<KeyType, string>> = { 'ec-p256': 'P-256', 'ec-p384': 'P-384', 'rsa-2048': 'RSA-2048', 'rsa-4096': 'RSA-4096' }

/**
 * A signer whose key is elsewhere. Every signature is checked here before anybody gets it: another key under the same name, or an answer
 * that was cut, must not end up in a certificate.
 * @throws {SpiffeError} `key_service_malformed` when the public key is none of its type
 */
export function remoteSigner ({ location, type, publicKey }: KeyReference, sign: (digest: Uint8Array) => Promise<Uint8Array>): Signer {
  const verifier = readPublicKey(location, type, publicKey)
  const algorithm = type === 'ec-p384' ? 'sha384' : 'sha256'
  return {
    type,
    publicKey,
    async sign (data, encoding) {
      const signature = await sign(hash(algorithm, data, 'buffer'))
      if (!verify(algorithm, data, verifier, signature)) {
        throw new SpiffeError('key_service_malformed', `what ${location} signed does not verify under the public key it had`)
      }
      if (encoding === 'der' || !type.startsWith('ec-')) return signature
      return ieeeP1363Of(signature, type === 'ec-p256' ? 32 : 48)
    }
  }
}

function readPublicKey (location: string, type: KeyType, publicKey: Uint8Array): KeyObject {
  try {
    const { name } = parsePublicKey(publicKey)
    if (name !== names[type]) throw new Error(`it is ${name}`)
    return createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' })
  } catch (error) {
    throw new SpiffeError('key_service_malformed', `the public key of ${location} is none of ${type}: ${(error as Error).message}`)
  }
}

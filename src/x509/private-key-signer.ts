import { createPublicKey, sign, type KeyObject } from 'node:crypto'
import { SpiffeError } from '../spiffe/errors.ts'
import { ieeeP1363Of } from './ecdsa-signature.ts'
import type { KeyType } from './key-type.ts'
import type { SignatureEncoding, Signer } from './signer.ts'

/** Signs with a key of this process. @throws {SpiffeError} `key_unsupported` unless it is of a `KeyType` */
export function signerOf (privateKey: KeyObject): Signer {
  const type = keyTypeOf(privateKey)
  const digest = type === 'ec-p384' ? 'sha384' : 'sha256'
  const octets = type === 'ec-p256' ? 32 : type === 'ec-p384' ? 48 : undefined
  // Written by us instead of by `dsaEncoding`: options make Node look for the key by catching errors, half as long as signing takes.
  const inForm = (signature: Uint8Array, encoding: SignatureEncoding) =>
    encoding === 'ieee-p1363' && octets !== undefined ? ieeeP1363Of(signature, octets) : signature
  return {
    type,
    publicKey: new Uint8Array(createPublicKey(privateKey).export({ format: 'der', type: 'spki' })),
    sign: (data, encoding) => new Promise((resolve, reject) => {
      sign(digest, data, privateKey, (error, signature) => { if (error === null) resolve(inForm(signature, encoding)); else reject(error) })
    }),
    signSync: (data, encoding) => inForm(sign(digest, data, privateKey), encoding)
  }
}

function keyTypeOf ({ asymmetricKeyType: kind, asymmetricKeyDetails: details }: KeyObject): KeyType {
  if (kind === 'ec' && details?.namedCurve === 'prime256v1') return 'ec-p256'
  if (kind === 'ec' && details?.namedCurve === 'secp384r1') return 'ec-p384'
  if (kind === 'rsa' && details?.modulusLength === 2048) return 'rsa-2048'
  if (kind === 'rsa' && details?.modulusLength === 4096) return 'rsa-4096'
  const what = [kind, details?.namedCurve ?? details?.modulusLength].filter(part => part !== undefined).join(' ')
  throw new SpiffeError('key_unsupported', `${what} is no type of key that signs here`)
}

import { createPublicKey, sign, type KeyObject } from 'node:crypto'
import { SpiffeError } from '../spiffe/errors.ts'
import type { KeyType } from './key-type.ts'
import type { SignatureEncoding, Signer } from './signer.ts'

/** Signs with a key of this process. @throws {SpiffeError} `key_unsupported` unless it is of a `KeyType` */
export function signerOf (privateKey: KeyObject): Signer {
  const type = keyTypeOf(privateKey)
  const digest = type === 'ec-p384' ? 'sha384' : 'sha256'
  const keyOf = (encoding: SignatureEncoding) => ({ key: privateKey, dsaEncoding: encoding })
  return {
    type,
    publicKey: new Uint8Array(createPublicKey(privateKey).export({ format: 'der', type: 'spki' })),
    sign: (data, encoding) => new Promise((resolve, reject) => {
      sign(digest, data, keyOf(encoding), (error, signature) => { if (error === null) resolve(signature); else reject(error) })
    }),
    signSync: (data, encoding) => sign(digest, data, keyOf(encoding))
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

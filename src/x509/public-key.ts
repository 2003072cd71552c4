import { SpiffeError } from '../spiffe/errors.ts'
import { DerError, DerReader } from './der-reader.ts'
import { derTag } from './der-tag.ts'
import { oid } from './oid.ts'

/** What a SubjectPublicKeyInfo says of its key. */
export interface PublicKey {
  readonly kind: 'ec' | 'rsa' | 'ed25519'
  /** Of the curve's field or the modulus. */
  readonly bits: number
  /** e.g. `P-256`, `RSA-2048`. */
  readonly name: string
  /** The subjectPublicKey's octets: their SHA-1 is the subject key identifier (RFC 5280 §4.2.1.2, method 1). */
  readonly keyBits: Uint8Array
}

const curves: Readonly<Record<string, { readonly name: string, readonly bits: number }>> = {
  [oid.p256]: { name: 'P-256', bits: 256 },
  [oid.p384]: { name: 'P-384', bits: 384 },
  [oid.p521]: { name: 'P-521', bits: 521 }
}

/**
 * Reads a SubjectPublicKeyInfo in DER: P-256, P-384, P-521, RSA of 2048 to 8192 bits (AMB-24), Ed25519. Whether a point lies on
 * its curve is left to whoever uses the key.
 * @throws {SpiffeError} `key_unsupported`
 */
export function parsePublicKey (spki: Uint8Array): PublicKey {
  try {
    return read(spki)
  } catch (error) {
    if (error instanceof DerError) throw new SpiffeError('key_unsupported', `malformed public key: ${error.message}`, { cause: error })
    throw error
  }
}

/** Like `parsePublicKey`, for keys that X509-SVIDs are asked for: not Ed25519, which Envoy does not offer. */
export function parseSubjectKey (spki: Uint8Array): PublicKey {
  const key = parsePublicKey(spki)
  if (key.kind === 'ed25519') throw unsupported('Ed25519')
  return key
}

function read (spki: Uint8Array): PublicKey {
  const outer = new DerReader(spki)
  const info = outer.enter(derTag.sequence)
  outer.finish()
  const algorithm = info.enter(derTag.sequence)
  const keyBits = info.readOctetsOfBits()
  info.finish()
  const type = algorithm.readOid()
  switch (type) {
    case oid.ecPublicKey: return readEcKey(algorithm, keyBits)
    case oid.rsaEncryption: return readRsaKey(algorithm, keyBits)
    case oid.ed25519: {
      algorithm.finish()
      if (keyBits.length !== 32) throw unsupported('Ed25519 key of another length than 32 bytes')
      return { kind: 'ed25519', bits: 256, name: 'Ed25519', keyBits }
    }
    default: throw unsupported(type)
  }
}

function readEcKey (algorithm: DerReader, keyBits: Uint8Array): PublicKey {
  if (algorithm.nextTag !== derTag.oid) throw unsupported('a curve without a name')
  const curveOid = algorithm.readOid()
  algorithm.finish()
  const curve = curves[curveOid]
  if (curve === undefined) throw unsupported(`curve ${curveOid}`)
  const isUncompressed = keyBits[0] === 4 && keyBits.length === 1 + 2 * Math.ceil(curve.bits / 8)
  if (!isUncompressed) throw unsupported('a point that is not in uncompressed form')
  return { kind: 'ec', ...curve, keyBits }
}

function readRsaKey (algorithm: DerReader, keyBits: Uint8Array): PublicKey {
  if (algorithm.read(derTag.null).length > 0) throw new DerError('NULL with content')
  algorithm.finish()
  const outer = new DerReader(keyBits)
  const key = outer.enter(derTag.sequence)
  outer.finish()
  const modulus = key.readInteger()
  const exponent = key.readInteger()
  key.finish()
  const bits = bitLength(modulus)
  if (bits < 2048 || bits > 8192) throw unsupported(`an RSA modulus of ${bits} bits, outside 2048 to 8192,`)
  const exponentBits = bitLength(exponent)
  if (exponentBits < 2 || exponentBits > 32 || exponent.at(-1)! % 2 === 0 || modulus.at(-1)! % 2 === 0) {
    throw unsupported('an RSA key with an even modulus, or an exponent that is not an odd number of 2 to 32 bits,')
  }
  return { kind: 'rsa', bits, name: `RSA-${bits}`, keyBits }
}

/** Of a DER integer in its shortest form; 0 if it is not positive. */
function bitLength (integer: Uint8Array): number {
  if (integer[0]! >= 0x80) return 0
  const digits = integer[0] === 0 ? integer.subarray(1) : integer
  return digits.length === 0 ? 0 : digits.length * 8 - (Math.clz32(digits[0]!) - 24)
}

function unsupported (what: string): SpiffeError {
  return new SpiffeError('key_unsupported', `${what} is not accepted as a public key`, { requirement: 'AMB-24' })
}

import { constants, createECDH, privateEncrypt, randomBytes, type KeyObject } from 'node:crypto'
import { encodeSequence, encodeUnsigned } from '../../src/x509/der-writer.ts'

const orders = {
  'prime256v1': 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  'secp384r1': 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n
}
/** DigestInfo of SHA-256 up to the digest (RFC 8017 §9.2, note 1). */
const sha256Info = Buffer.from('3031300d060960864801650304020105000420', 'hex')

/** Signs what is a digest already, which Node cannot: ECDSA (FIPS 186-5 §6.4.1) in DER, or RSA with PKCS#1 v1.5 and SHA-256. */
export function signDigest (key: KeyObject, digest: Uint8Array): Uint8Array {
  if (key.asymmetricKeyType === 'rsa') {
    return privateEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, Buffer.concat([sha256Info, digest]))
  }
  const curve = key.asymmetricKeyDetails?.namedCurve as keyof typeof orders
  const n = orders[curve]
  const octets = curve === 'prime256v1' ? 32 : 48
  const d = numberOf(Buffer.from(key.export({ format: 'jwk' }).d as string, 'base64url'))
  const k = 1n + numberOf(randomBytes(octets + 8)) % (n - 1n)
  const point = createECDH(curve)
  point.setPrivateKey(bytesOf(k, octets))
  const r = numberOf(point.getPublicKey().subarray(1, 1 + octets)) % n
  const s = power(k, n - 2n, n) * ((numberOf(digest) + r * d) % n) % n
  return encodeSequence(encodeUnsigned(bytesOf(r, octets)), encodeUnsigned(bytesOf(s, octets)))
}

function numberOf (bytes: Uint8Array): bigint { return BigInt(`0x${Buffer.from(bytes).toString('hex')}`) }

function bytesOf (number: bigint, octets: number): Buffer { return Buffer.from(number.toString(16).padStart(2 * octets, '0'), 'hex') }

function power (base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n
  for (let square = base, left = exponent; left > 0n; square = square * square % modulus, left >>= 1n) {
    if ((left & 1n) === 1n) result = result * square % modulus
  }
  return result
}

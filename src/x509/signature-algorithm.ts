import { constants, verify, type KeyObject } from 'node:crypto'
import { DerReader } from './der-reader.ts'
import { derTag } from './der-tag.ts'
import { encodePem } from './pem.ts'
import type { PublicKey } from './public-key.ts'
import type { KeyType } from './key-type.ts'

/** How a certificate or request was signed. */
export interface SignatureAlgorithm {
  /** As OpenSSL calls it, e.g. `ecdsa-with-SHA256`. */
  readonly name: string
  readonly key: PublicKey['kind']
  readonly digest: 'sha256' | 'sha384' | 'sha512' | null
  readonly isPss: boolean
}

/** RSASSA-PSS with MGF1 of the same hash and a salt as long as the hash. */
function pss (hash: string, salt: string): string {
  const hashAlgorithm = `300d0609608648016503040${hash}0500`
  return `304106092a864886f70d01010a3034a00f${hashAlgorithm}a11c301a06092a864886f70d010108${hashAlgorithm}a20302${salt}`
}

/**
 * By the AlgorithmIdentifier in hex, parameters included (RFC 5758, RFC 4055, RFC 8410). What is not here is refused: MD5 and
 * SHA-1 (AMB-24), curves below 256 bits, and everything unknown. RSA's NULL may be missing (RFC 4055 §5).
 */
const known: ReadonlyMap<string, SignatureAlgorithm> = new Map<string, SignatureAlgorithm>([
  ['300a06082a8648ce3d040302', { name: 'ecdsa-with-SHA256', key: 'ec', digest: 'sha256', isPss: false }],
  ['300a06082a8648ce3d040303', { name: 'ecdsa-with-SHA384', key: 'ec', digest: 'sha384', isPss: false }],
  ['300a06082a8648ce3d040304', { name: 'ecdsa-with-SHA512', key: 'ec', digest: 'sha512', isPss: false }],
  ['300d06092a864886f70d01010b0500', { name: 'sha256WithRSAEncryption', key: 'rsa', digest: 'sha256', isPss: false }],
  ['300d06092a864886f70d01010c0500', { name: 'sha384WithRSAEncryption', key: 'rsa', digest: 'sha384', isPss: false }],
  ['300d06092a864886f70d01010d0500', { name: 'sha512WithRSAEncryption', key: 'rsa', digest: 'sha512', isPss: false }],
  ['300b06092a864886f70d01010b', { name: 'sha256WithRSAEncryption', key: 'rsa', digest: 'sha256', isPss: false }],
  ['300b06092a864886f70d01010c', { name: 'sha384WithRSAEncryption', key: 'rsa', digest: 'sha384', isPss: false }],
  ['300b06092a864886f70d01010d', { name: 'sha512WithRSAEncryption', key: 'rsa', digest: 'sha512', isPss: false }],
  [pss('201', '0120'), { name: 'rsassaPss-SHA256', key: 'rsa', digest: 'sha256', isPss: true }],
  [pss('202', '0130'), { name: 'rsassaPss-SHA384', key: 'rsa', digest: 'sha384', isPss: true }],
  [pss('203', '0140'), { name: 'rsassaPss-SHA512', key: 'rsa', digest: 'sha512', isPss: true }],
  ['300506032b6570', { name: 'ED25519', key: 'ed25519', digest: null, isPss: false }]
])

/** The AlgorithmIdentifier, DER, of what a key of this type signs X.509 with. */
export const algorithmOfKeyType: Readonly<Record<KeyType, Uint8Array>> = {
  'ec-p256': Buffer.from('300a06082a8648ce3d040302', 'hex'),
  'ec-p384': Buffer.from('300a06082a8648ce3d040303', 'hex'),
  'rsa-2048': Buffer.from('300d06092a864886f70d01010b0500', 'hex'),
  'rsa-4096': Buffer.from('300d06092a864886f70d01010b0500', 'hex')
}

/** @param der AlgorithmIdentifier. @returns `undefined` for one that is refused */
export function findSignatureAlgorithm (der: Uint8Array): SignatureAlgorithm | undefined {
  return known.get(Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('hex'))
}

export interface VerifyingKey {
  readonly facts: PublicKey
  /** Ready made where it is used again; SubjectPublicKeyInfo in DER otherwise. */
  readonly key: KeyObject | Uint8Array
}

/** The object identifier alone, for people. @throws {DerError} */
export function algorithmOid (der: Uint8Array): string {
  return new DerReader(der).enter(derTag.sequence).readOid()
}

/**
 * Whether `signature` is one of `data` by this key. A key of another kind than the algorithm names never fits.
 */
export function verifySignature (algorithm: SignatureAlgorithm, data: Uint8Array, signature: Uint8Array, verifying: VerifyingKey): boolean {
  const { facts, key } = verifying
  if (algorithm.key !== facts.kind) return false
  // As text: Node finds out whether an object is a key by catching errors, which takes longer than reading PEM.
  const material = key instanceof Uint8Array ? encodePem('PUBLIC KEY', key) : key
  try {
    return verify(algorithm.digest, data, algorithm.isPss ? withPss(material) : material, signature)
  } catch {
    // OpenSSL throws for keys it cannot load, such as a point that is not on its curve.
    return false
  }
}

function withPss (key: KeyObject | string) {
  const options = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
  return typeof key === 'string' ? { key, ...options } : { key, ...options }
}

import { constants, verify, type KeyObject } from 'node:crypto'
import type { KeyType } from '../x509/key-type.ts'
import type { PublicKey } from '../x509/public-key.ts'

/** One of JWT-SVID §2.1 (RFC 7518 §3). */
export interface JwsAlgorithm {
  readonly digest: 'sha256' | 'sha384' | 'sha512'
  readonly key: 'ec' | 'rsa'
  /** ECDSA: the curve that goes with it (JWT-15). */
  readonly curve?: string
  readonly isPss: boolean
}

const algorithms: ReadonlyMap<string, JwsAlgorithm> = new Map<string, JwsAlgorithm>([
  ['RS256', { digest: 'sha256', key: 'rsa', isPss: false }],
  ['RS384', { digest: 'sha384', key: 'rsa', isPss: false }],
  ['RS512', { digest: 'sha512', key: 'rsa', isPss: false }],
  ['ES256', { digest: 'sha256', key: 'ec', curve: 'P-256', isPss: false }],
  ['ES384', { digest: 'sha384', key: 'ec', curve: 'P-384', isPss: false }],
  ['ES512', { digest: 'sha512', key: 'ec', curve: 'P-521', isPss: false }],
  ['PS256', { digest: 'sha256', key: 'rsa', isPss: true }],
  ['PS384', { digest: 'sha384', key: 'rsa', isPss: true }],
  ['PS512', { digest: 'sha512', key: 'rsa', isPss: true }]
])

/** What a key of this type signs JWT-SVIDs with. */
export const jwsNameOfKeyType: Readonly<Record<KeyType, string>> = {
  'ec-p256': 'ES256', 'ec-p384': 'ES384', 'rsa-2048': 'RS256', 'rsa-4096': 'RS256'
}

/** @param name as it stands in the header; case matters */
export function findJwsAlgorithm (name: string): JwsAlgorithm | undefined { return algorithms.get(name) }

/** Whether a key is of the kind and curve that the algorithm demands (RFC 7518 §3). */
export function fitsAlgorithm (algorithm: JwsAlgorithm, key: PublicKey): boolean {
  return algorithm.key === key.kind && (algorithm.curve === undefined || algorithm.curve === key.name)
}

/** An ECDSA signature of another length than r and s have together (RFC 7518 §3.4) does not verify. */
export function verifyJws (algorithm: JwsAlgorithm, signingInput: Uint8Array, signature: Uint8Array, key: KeyObject): boolean {
  const pss = algorithm.isPss ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST } : {}
  return verify(algorithm.digest, signingInput, { key, dsaEncoding: 'ieee-p1363', ...pss }, signature)
}

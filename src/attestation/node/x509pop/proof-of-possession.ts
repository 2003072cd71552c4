import { constants, createPublicKey, randomBytes, sign, verify, type KeyObject } from 'node:crypto'
import { SpiffeError } from '../../../spiffe/errors.ts'
import { type PublicKey, parsePublicKey } from '../../../x509/public-key.ts'
import { nonceBytes, type PopAnswer, type PopChallenge } from './pop-payload.ts'

/** RSASSA-PSS (RFC 8017) or ECDSA over SHA-256 of both nonces: neither side chooses alone what is signed. */

/**
 * @param spki of the certificate, DER
 * @throws {SpiffeError} `attestation_refused` for a key of another kind, or an RSA key that is too long
 */
export function challengeFor (spki: Uint8Array, mostRsaBits: number): PopChallenge {
  return { kind: keyOf(spki, mostRsaBits).kind as PopChallenge['kind'], nonce: randomBytes(nonceBytes) }
}

/** @throws {SpiffeError} `attestation_malformed` for a challenge that is for another kind of key */
export function answerChallenge ({ kind, nonce: theirs }: PopChallenge, key: KeyObject): PopAnswer {
  const own = key.asymmetricKeyType === 'ec' ? 'ec' : key.asymmetricKeyType === 'rsa' ? 'rsa' : undefined
  if (own !== kind) {
    throw new SpiffeError('attestation_malformed', `x509pop: the server challenged a key of another kind than ${key.asymmetricKeyType}`)
  }
  const nonce = randomBytes(nonceBytes)
  const signed = Buffer.concat([theirs, nonce])
  if (kind === 'rsa') {
    return { kind, nonce, signature: sign('sha256', signed, { key, ...pss, saltLength: constants.RSA_PSS_SALTLEN_MAX_SIGN }) }
  }
  const both = sign('sha256', signed, { key, dsaEncoding: 'ieee-p1363' })
  return { kind, nonce, r: withoutZeros(both.subarray(0, both.length / 2)), s: withoutZeros(both.subarray(both.length / 2)) }
}

/** Whether whoever answered has the certificate's key. */
export function isProven (spki: Uint8Array, challenge: PopChallenge, answer: PopAnswer): boolean {
  if (answer.kind !== challenge.kind) return false
  const signed = Buffer.concat([challenge.nonce, answer.nonce])
  const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })
  if (answer.kind === 'rsa') {
    return verify('sha256', signed, { key, ...pss, saltLength: constants.RSA_PSS_SALTLEN_AUTO }, answer.signature)
  }
  const octets = Math.ceil(parsePublicKey(spki).bits / 8)
  const [r, s] = [answer.r, answer.s].map(withoutZeros) as [Uint8Array, Uint8Array]
  if (r.length > octets || s.length > octets) return false
  const both = new Uint8Array(2 * octets)
  both.set(r, octets - r.length)
  both.set(s, 2 * octets - s.length)
  return verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, both)
}

const pss = { padding: constants.RSA_PKCS1_PSS_PADDING } as const

function keyOf (spki: Uint8Array, mostRsaBits: number): PublicKey {
  let key: PublicKey
  try {
    key = parsePublicKey(spki)
  } catch (error) {
    throw new SpiffeError('attestation_refused', `x509pop: ${(error as Error).message}`, { cause: error })
  }
  if (key.kind === 'ed25519') throw new SpiffeError('attestation_refused', 'x509pop: no key of kind Ed25519 can be challenged')
  if (key.kind === 'rsa' && key.bits > mostRsaBits) {
    throw new SpiffeError('attestation_refused', `x509pop: an RSA key of ${key.bits} bits, of which max_rsa_key_size admits ${mostRsaBits}`)
  }
  return key
}

function withoutZeros (number: Uint8Array): Uint8Array {
  const first = number.findIndex(octet => octet !== 0)
  return first < 0 ? new Uint8Array() : number.subarray(first)
}

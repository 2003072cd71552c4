import { SpiffeError } from '../../../spiffe/errors.ts'
import { isJsonObject, parseStrictJsonObject, type JsonObject } from '../../../spiffe/strict-json.ts'

/** SPIRE's JSON of `x509pop`, bytes in base64. */

/** Challenger and challenged give as many bytes each. */
export const nonceBytes = 32
/** Of a message. */
const maxLength = 512 * 1024

/** What the nonces are signed by. `r` and `s` are numbers, highest octet first. */
export type PopAnswer = { readonly nonce: Uint8Array } & (
  | { readonly kind: 'rsa', readonly signature: Uint8Array }
  | { readonly kind: 'ec', readonly r: Uint8Array, readonly s: Uint8Array }
)

export interface PopChallenge { readonly kind: PopAnswer['kind'], readonly nonce: Uint8Array }

const field = { rsa: 'rsa_signature', ec: 'ecdsa_signature' } as const

/** @param certificates DER, leaf first */
export function encodePayload (certificates: readonly Uint8Array[]): Uint8Array {
  return encode({ certificates: certificates.map(base64) })
}

/** @throws {SpiffeError} `attestation_malformed` */
export function parsePayload (payload: Uint8Array): Uint8Array[] {
  const { certificates } = readObject(payload, 'attestation data')
  if (!Array.isArray(certificates) || certificates.length === 0) throw malformed('no certificate to attest')
  return certificates.map(one => bytesOf(one, 'a certificate'))
}

export function encodeChallenge ({ kind, nonce }: PopChallenge): Uint8Array {
  return encode({ [field[kind]]: { nonce: base64(nonce) } })
}

/** @throws {SpiffeError} `attestation_malformed` */
export function parseChallenge (challenge: Uint8Array): PopChallenge {
  const { kind, part } = partOf(readObject(challenge, 'the challenge'), 'the challenge')
  return { kind, nonce: nonceOf(part, 'the challenge') }
}

export function encodeAnswer (answer: PopAnswer): Uint8Array {
  const nonce = base64(answer.nonce)
  return encode({
    [field[answer.kind]]: answer.kind === 'rsa' ? { nonce, signature: base64(answer.signature) }
      : { nonce, r: base64(answer.r), s: base64(answer.s) }
  })
}

/** @throws {SpiffeError} `attestation_malformed` */
export function parseAnswer (answer: Uint8Array): PopAnswer {
  const { kind, part } = partOf(readObject(answer, 'the answer'), 'the answer')
  const nonce = nonceOf(part, 'the answer')
  return kind === 'rsa' ? { kind, nonce, signature: bytesOf(part['signature'], 'the signature') }
    : { kind, nonce, r: bytesOf(part['r'], 'the signature\'s r'), s: bytesOf(part['s'], 'the signature\'s s') }
}

/** SPIRE writes the other member too, as `null`. */
function partOf (object: JsonObject, what: string): { readonly kind: PopAnswer['kind'], readonly part: JsonObject } {
  const parts = (['rsa', 'ec'] as const).flatMap(kind => {
    const part = object[field[kind]]
    return isJsonObject(part) ? [{ kind, part }] : []
  })
  const [only] = parts
  if (only === undefined || parts.length > 1) throw malformed(`${what} is not for exactly one kind of key`)
  return only
}

function nonceOf ({ nonce }: JsonObject, what: string): Uint8Array {
  const bytes = bytesOf(nonce, `${what}'s nonce`)
  if (bytes.length !== nonceBytes) throw malformed(`${what}'s nonce has ${bytes.length} bytes instead of ${nonceBytes}`)
  return bytes
}

function readObject (json: Uint8Array, what: string): JsonObject {
  try {
    return parseStrictJsonObject(json, { maxLength })
  } catch {
    throw malformed(`${what} is not one JSON object`)
  }
}

function bytesOf (value: unknown, what: string): Uint8Array {
  if (typeof value !== 'string' || value === '') throw malformed(`${what} is missing`)
  const bytes = Buffer.from(value, 'base64')
  if (bytes.toString('base64') !== value) throw malformed(`${what} is not in base64`)
  return bytes
}

function base64 (bytes: Uint8Array): string { return Buffer.from(bytes).toString('base64') }
function encode (value: object): Uint8Array { return Buffer.from(JSON.stringify(value)) }

function malformed (what: string): SpiffeError { return new SpiffeError('attestation_malformed', `x509pop: ${what}`) }

import { isJsonObject, parseStrictJsonObject, type JsonObject } from '../../../spiffe/strict-json.ts'
import { sshMalformed } from './ssh-encoding.ts'
import type { SshSignature } from './ssh-signature.ts'

/** SPIRE's JSON of `sshpop`: Go's names of fields, bytes in base64. */

/** Challenger and challenged give as many bytes each. */
export const nonceBytes = 32
/** Of a message. */
const maxLength = 128 * 1024

export interface SshAnswer { readonly nonce: Uint8Array, readonly signature: SshSignature }

/** @param certificate as OpenSSH has it */
export function encodePayload (certificate: Uint8Array): Uint8Array { return encode({ Certificate: base64(certificate) }) }

/** @throws {SpiffeError} `attestation_malformed` */
export function parsePayload (payload: Uint8Array): Buffer {
  return bytesOf(readObject(payload, 'attestation data')['Certificate'], 'the certificate')
}

export function encodeChallenge (nonce: Uint8Array): Uint8Array { return encode({ Nonce: base64(nonce) }) }

/** @throws {SpiffeError} `attestation_malformed` */
export function parseChallenge (challenge: Uint8Array): Buffer { return nonceOf(readObject(challenge, 'the challenge'), 'the challenge') }

export function encodeAnswer ({ nonce, signature: { format, blob } }: SshAnswer): Uint8Array {
  return encode({ Nonce: base64(nonce), Signature: { Format: format, Blob: base64(blob), Rest: null } })
}

/** @throws {SpiffeError} `attestation_malformed` */
export function parseAnswer (answer: Uint8Array): SshAnswer {
  const object = readObject(answer, 'the answer')
  const signature = object['Signature']
  if (!isJsonObject(signature) || typeof signature['Format'] !== 'string') throw sshMalformed('the answer has no signature')
  // What signatures of security keys have more; no host's key is one.
  if (signature['Rest'] !== undefined && signature['Rest'] !== null && signature['Rest'] !== '') {
    throw sshMalformed('the signature has more parts than a host\'s')
  }
  const blob = bytesOf(signature['Blob'], 'the signature')
  return { nonce: nonceOf(object, 'the answer'), signature: { format: signature['Format'], blob } }
}

function nonceOf (object: JsonObject, what: string): Buffer {
  const bytes = bytesOf(object['Nonce'], `${what}'s nonce`)
  if (bytes.length !== nonceBytes) throw sshMalformed(`${what}'s nonce has ${bytes.length} bytes instead of ${nonceBytes}`)
  return bytes
}

function readObject (json: Uint8Array, what: string): JsonObject {
  try {
    return parseStrictJsonObject(json, { maxLength })
  } catch {
    throw sshMalformed(`${what} is not one JSON object`)
  }
}

function bytesOf (value: unknown, what: string): Buffer {
  if (typeof value !== 'string' || value === '') throw sshMalformed(`${what} is missing`)
  const bytes = Buffer.from(value, 'base64')
  if (bytes.toString('base64') !== value) throw sshMalformed(`${what} is not in base64`)
  return bytes
}

function base64 (bytes: Uint8Array): string { return Buffer.from(bytes).toString('base64') }
function encode (value: object): Uint8Array { return Buffer.from(JSON.stringify(value)) }

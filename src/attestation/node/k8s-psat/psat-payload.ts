import { SpiffeError } from '../../../spiffe/errors.ts'
import { parseStrictJsonObject } from '../../../spiffe/strict-json.ts'

/** What agents show: SPIRE's JSON. */
export interface PsatPayload {
  readonly cluster: string
  /** Secret. */
  readonly token: string
}

/** Bytes; a token with everything in it has some 2 KiB. */
const maxPayload = 64 * 1024

export function encodePsatPayload ({ cluster, token }: PsatPayload): Uint8Array {
  return Buffer.from(JSON.stringify({ cluster, token }))
}

/** @throws {SpiffeError} `attestation_malformed`; the token is not in the message */
export function parsePsatPayload (payload: Uint8Array): PsatPayload {
  const { cluster, token } = readObject(payload)
  if (typeof cluster !== 'string' || cluster === '') throw malformed('missing cluster in attestation data')
  if (typeof token !== 'string' || token === '') throw malformed('missing token in attestation data')
  return { cluster, token }
}

function readObject (payload: Uint8Array) {
  try {
    return parseStrictJsonObject(payload, { maxLength: maxPayload })
  } catch {
    throw malformed('the payload is not one JSON object')
  }
}

function malformed (what: string): SpiffeError {
  return new SpiffeError('attestation_malformed', `k8s_psat: ${what}`)
}

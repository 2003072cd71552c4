import { SpiffeError } from '../spiffe/errors.ts'
import { parseStrictJsonObject, type JsonObject } from '../spiffe/strict-json.ts'
import { findJwsAlgorithm, type JwsAlgorithm } from './jws-algorithm.ts'

/** A JWS whose header is acceptable; nothing is verified yet. */
export interface ParsedToken {
  readonly algorithm: JwsAlgorithm
  readonly keyId: string | undefined
  readonly claims: JsonObject
  /** The octets that are signed. */
  readonly signingInput: Uint8Array
  readonly signature: Uint8Array
}

const maxBytes = 16 * 1024
const maxJsonDepth = 32

/**
 * Reads the compact form (RFC 7515 §7.1) strictly: three parts in canonical base64url and nothing around them, no JSON name repeated.
 * Of the header, `alg`, `kid`, `typ` and `crit` count; all else is ignored (AMB-06). No message shows any of the token (JWT-17).
 * @throws {SpiffeError} `jwt_svid_malformed`, with the number of the broken requirement
 */
export function parseToken (token: string): ParsedToken {
  if (token.length > maxBytes) throw malformed('AMB-27', `token is longer than ${maxBytes} bytes`)
  const parts = token.split('.')
  const [header, payload, signature] = parts
  if (parts.length !== 3 || header === undefined || payload === undefined || signature === undefined) {
    throw malformed('JWT-01', 'token is no JWS in compact form: three parts between two dots')
  }
  const { algorithm, keyId } = readHeader(decodeJson('header', header))
  return {
    algorithm,
    keyId,
    claims: decodeJson('payload', payload),
    signingInput: Buffer.from(`${header}.${payload}`, 'latin1'),
    signature: decodePart('signature', signature)
  }
}

function readHeader ({ alg, kid, typ, crit }: JsonObject): { algorithm: JwsAlgorithm, keyId: string | undefined } {
  if (typeof alg !== 'string') throw malformed('JWT-03', 'alg is missing or no string')
  const algorithm = findJwsAlgorithm(alg)
  if (algorithm === undefined) throw malformed('JWT-03', `alg ${JSON.stringify(alg.slice(0, 20))} is not accepted`)
  if (typ !== undefined && typ !== 'JWT' && typ !== 'JOSE') throw malformed('JWT-05', 'typ is neither "JWT" nor "JOSE"')
  if (crit !== undefined) throw malformed('AMB-06', 'crit is not accepted')
  if (kid !== undefined && typeof kid !== 'string') throw malformed('JWT-04', 'kid is no string')
  return { algorithm, keyId: kid }
}

function decodeJson (name: string, part: string): JsonObject {
  try {
    return parseStrictJsonObject(decodePart(name, part), { maxDepth: maxJsonDepth })
  } catch (error) {
    if (!(error instanceof SpiffeError) || error.code === 'jwt_svid_malformed') throw error
    throw malformed('JWT-01', `${name}: ${error.message}`, error)
  }
}

function decodePart (name: string, part: string): Buffer {
  const bytes = Buffer.from(part, 'base64url')
  // Node passes over what is no base64url and ignores stray bits at the end.
  if (part === '' || bytes.toString('base64url') !== part) throw malformed('JWT-01', `${name} is empty or no canonical base64url`)
  return bytes
}

function malformed (requirement: string, message: string, cause?: Error): SpiffeError {
  return new SpiffeError('jwt_svid_malformed', message, { requirement, cause })
}

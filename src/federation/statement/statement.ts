import { fitsAlgorithm, findJwsAlgorithm, verifyJws, type JwsAlgorithm } from '../../jwt/jws-algorithm.ts'
import type { StatementType } from '../../jwt/sign-jws.ts'
import { verificationKeysOf } from '../../jwt/verification-keys.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseStrictJsonObject, type JsonObject } from '../../spiffe/strict-json.ts'

/** What a trust domain's JWT key signed that is no JWT-SVID: read, and not yet believed. */
export interface Statement {
  readonly claims: JsonObject
  readonly jws: StatementSignature
}

export interface StatementSignature {
  readonly algorithm: JwsAlgorithm
  readonly keyId: string
  readonly signingInput: Uint8Array
  readonly signature: Uint8Array
}

/** The last second that a `Date` can hold. */
const lastSecond = 8.64e12

/**
 * Reads a compact JWS (RFC 7515 §7.1) strictly. White space anywhere counts for nothing: it may have come by mail, or end a file.
 * @param refuse makes what is thrown of the rule that was broken
 */
export function parseStatement (text: string, type: StatementType, refuse: (rule: string, cause?: unknown) => SpiffeError): Statement {
  const parts = text.replace(/\s+/g, '').split('.')
  if (parts.length !== 3) throw refuse('it is not three parts between two dots')
  const [header, payload, signature] = parts.map(decodePart) as [Buffer, Buffer, Buffer]
  const jws = readHeader(parseObject('header', header))
  return {
    claims: parseObject('payload', payload),
    jws: { ...jws, signingInput: Buffer.from(parts.slice(0, 2).join('.'), 'latin1'), signature }
  }

  function decodePart (part: string): Buffer {
    const bytes = Buffer.from(part, 'base64url')
    // Node passes over what is no base64url and ignores stray bits at the end.
    if (part === '' || bytes.toString('base64url') !== part) throw refuse('a part is empty or no canonical base64url')
    return bytes
  }

  function parseObject (name: string, bytes: Buffer): JsonObject {
    try {
      return parseStrictJsonObject(bytes)
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      throw refuse(`${name}: ${error.message}`, error)
    }
  }

  function readHeader ({ alg, kid, typ, crit }: JsonObject): Pick<StatementSignature, 'algorithm' | 'keyId'> {
    if (typ !== type) throw refuse(`typ is not ${JSON.stringify(type)}: it is something else`)
    if (crit !== undefined) throw refuse('crit is not accepted')
    const algorithm = typeof alg === 'string' ? findJwsAlgorithm(alg) : undefined
    if (algorithm === undefined) throw refuse('alg is missing or not accepted')
    if (typeof kid !== 'string' || kid === '') throw refuse('kid is missing or no string')
    return { algorithm, keyId: kid }
  }
}

/** @returns what is wrong with the signature, if this bundle is of who should have signed; undefined when nothing is */
export function faultOfSignature ({ keyId, algorithm, signingInput, signature }: StatementSignature, bundle: Bundle): string | undefined {
  const { trustDomain } = bundle
  const key = verificationKeysOf(bundle).find(key => key.keyId === keyId)
  if (key === undefined) return `the bundle of ${trustDomain} has no JWT key ${JSON.stringify(keyId.slice(0, 100))}, which signed it`
  if (fitsAlgorithm(algorithm, key.facts) && verifyJws(algorithm, signingInput, signature, key.key)) return undefined
  return `its signature is not of the key that the bundle of ${trustDomain} has`
}

/** @returns the claim `exp` (RFC 7519 §4.1.4); undefined unless it is a whole number of seconds that a date can hold */
export function endOf ({ exp }: JsonObject): Date | undefined {
  const holds = typeof exp === 'number' && Number.isSafeInteger(exp) && exp >= 0 && exp <= lastSecond
  return holds ? new Date(exp * 1_000) : undefined
}

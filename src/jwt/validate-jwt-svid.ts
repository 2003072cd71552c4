import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseSpiffeId, trustDomainOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { JsonObject, JsonValue } from '../spiffe/strict-json.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { fitsAlgorithm, verifyJws } from './jws-algorithm.ts'
import { parseToken, type ParsedToken } from './parse-token.ts'
import { verificationKeysOf } from './verification-keys.ts'

export interface ValidatedJwtSvid {
  /** May be without a path: whether that is welcome is policy (AMB-18). */
  readonly id: SpiffeId
  /** All of them, the checked ones included. */
  readonly claims: Readonly<Record<string, unknown>>
  readonly expiresAt: Date
  /** Of the key that verified it. */
  readonly keyId: string
}

export interface ValidateJwtSvidOptions {
  /** Gives the bundle of exactly this trust domain (JWT-21, TDB-03). */
  readonly bundleOf: (trustDomain: TrustDomain) => Bundle | undefined
  /** What the validator calls itself; one of these must be in `aud`. */
  readonly audience: readonly string[]
  readonly at: Date
  /** How far the clocks of issuer and validator may be apart; 0 by default. */
  readonly leewaySeconds?: number
}

/** How many keys are tried for a token that names none. */
const maxKeysTried = 100
/** The last instant a `Date` can hold. */
const maxSeconds = 8.64e12

/**
 * Validates a JWT-SVID (JWT-SVID §4).
 * @throws {SpiffeError} `jwt_svid_malformed`, `jwt_svid_invalid`, with the number of the broken requirement; never with the token
 */
export function validateJwtSvid (token: string, { bundleOf, audience, at, leewaySeconds = 0 }: ValidateJwtSvidOptions): ValidatedJwtSvid {
  const parsed = parseToken(token)
  const { claims } = parsed
  const id = readSubject(claims)
  const keyId = checkSignature(parsed, trustDomainOf(id), bundleOf)
  checkAudience(claims, audience)
  const expiresAt = checkTimes(claims, at, leewaySeconds * 1000)
  for (const name of ['iss', 'jti']) {
    if (claims[name] !== undefined && typeof claims[name] !== 'string') throw invalid('JWT-14', `${name} is no string`)
  }
  return { id, claims, expiresAt, keyId }
}

function readSubject ({ sub }: JsonObject): SpiffeId {
  if (typeof sub !== 'string') throw invalid('JWT-06', 'sub is missing or no string')
  try {
    return parseSpiffeId(sub)
  } catch (error) {
    throw new SpiffeError('jwt_svid_invalid', `sub: ${(error as SpiffeError).message}`, { cause: error, requirement: 'JWT-06' })
  }
}

/** @returns the ID of the key that verified it */
function checkSignature (parsed: ParsedToken, trustDomain: TrustDomain, bundleOf: ValidateJwtSvidOptions['bundleOf']): string {
  const { keyId, algorithm, signingInput, signature } = parsed
  const bundle = bundleOf(trustDomain)
  if (bundle === undefined) throw invalid('JWT-21', `there is no bundle of trust domain ${trustDomain}`)
  if (bundle.trustDomain !== trustDomain) throw invalid('TDB-03', `the bundle of ${bundle.trustDomain} is not for ${trustDomain}`)
  if (bundle.jwtAuthorities.length === 0) throw invalid('JWT-20', `the bundle of ${trustDomain} has no JWT authority`)

  const named = verificationKeysOf(bundle).filter(key => keyId === undefined || key.keyId === keyId)
  if (named.length === 0) throw invalid('AMB-27', `no usable key in the bundle of ${trustDomain} has key ID ${show(keyId ?? 'any')}`)
  const fitting = named.filter(key => fitsAlgorithm(algorithm, key.facts))
  if (fitting.length === 0) throw invalid('JWT-15', `no key of ${trustDomain} fits alg`)
  const verified = fitting.slice(0, maxKeysTried).find(({ key }) => verifyJws(algorithm, signingInput, signature, key))
  if (verified === undefined) throw invalid('JWT-14', `the signature is not of the key that the bundle of ${trustDomain} has`)
  return verified.keyId
}

function checkAudience ({ aud }: JsonObject, own: readonly string[]): void {
  const values: readonly JsonValue[] = typeof aud === 'string' ? [aud] : Array.isArray(aud) ? aud as JsonValue[] : []
  if (values.length === 0) throw invalid('JWT-07', 'aud is missing, empty, or neither string nor list')
  const isIllFormed = values.some(value => typeof value !== 'string' || value === '')
  if (isIllFormed) throw invalid('JWT-07', 'aud has an empty value or one that is no string')
  if (!own.some(value => values.includes(value))) throw invalid('JWT-08', `aud has none of ${own.map(show).join(', ') || 'no audience'}`)
}

function checkTimes (claims: JsonObject, at: Date, leewayMs: number): Date {
  const expiresMs = readTime(claims, 'exp', 'JWT-10')
  if (expiresMs === undefined) throw invalid('JWT-10', 'exp is missing')
  if (!(at.getTime() < expiresMs + leewayMs)) throw invalid('JWT-11', `the token was valid until ${new Date(expiresMs).toISOString()}`)
  const notBeforeMs = readTime(claims, 'nbf', 'JWT-14')
  if (notBeforeMs !== undefined && at.getTime() < notBeforeMs - leewayMs) {
    throw invalid('JWT-14', `the token is valid from ${new Date(notBeforeMs).toISOString()}, which is not yet`)
  }
  readTime(claims, 'iat', 'JWT-14')
  return new Date(expiresMs)
}

/** A NumericDate (RFC 7519 §2) in milliseconds; it may have a fraction. */
function readTime (claims: JsonObject, name: 'exp' | 'nbf' | 'iat', requirement: string): number | undefined {
  const value = claims[name]
  if (value === undefined) return undefined
  if (typeof value !== 'number' || Math.abs(value) > maxSeconds) throw invalid(requirement, `${name} is no number of seconds`)
  return value * 1000
}

/** Of a value that is no secret. */
function show (value: string): string { return JSON.stringify(value.slice(0, 100)) }

function invalid (requirement: string, message: string): SpiffeError {
  return new SpiffeError('jwt_svid_invalid', message, { requirement })
}

import { X509Certificate } from 'node:crypto'
import type { Bundle, JwtAuthority, X509Authority } from './bundle.ts'
import { SpiffeError } from './errors.ts'
import { formatJson } from './format-json.ts'
import { formatPublicJwk, parsePublicJwk } from './json-web-key.ts'
import { isJsonObject, parseStrictJsonObject, type JsonObject, type JsonValue } from './strict-json.ts'
import type { TrustDomain } from './trust-domain.ts'

/** Told of each key that cannot be used, e.g. `keys[2] is skipped: kty "OKP" is unknown`. */
export type OnSkipped = (note: string) => void

const maxSequence = 2n ** 64n - 1n

/**
 * Reads a SPIFFE bundle (Trust Domain and Bundle §4). Keys that cannot be used are left out, whatever else is wrong
 * refuses the document. A result without authorities is legal and means that nothing is trusted (TDB-13).
 * @throws {SpiffeError} `bundle_malformed`, with the number of the broken requirement
 */
export function parseBundleDocument (text: string | Uint8Array, trustDomain: TrustDomain, onSkipped?: OnSkipped): Bundle {
  let document: JsonObject
  try {
    document = parseStrictJsonObject(text)
  } catch (error) {
    throw new SpiffeError('bundle_malformed', (error as SpiffeError).message, { cause: error, requirement: 'TDB-01' })
  }
  return readBundle(document, trustDomain, onSkipped)
}

/** Like `parseBundleDocument`, for a document that was read already. */
export function readBundle (document: JsonObject, trustDomain: TrustDomain, onSkipped: OnSkipped = () => {}): Bundle {
  const { keys, spiffe_sequence: sequence, spiffe_refresh_hint: hint } = document
  if (!Array.isArray(keys)) throw malformed('TDB-10', 'keys is missing or no array')
  const x509Authorities = new Map<string, X509Authority>()
  const jwtAuthorities = new Map<string, JwtAuthority>()
  for (const [index, jwk] of (keys as JsonValue[]).entries()) {
    if (!isJsonObject(jwk)) throw malformed('TDB-01', `keys[${index}] is no object`)
    const skip = (reason: string) => onSkipped(`keys[${index}] is skipped: ${reason}`)
    try {
      if (jwk.use === 'x509-svid') {
        const certificate = readCertificate(jwk)
        x509Authorities.set(Buffer.from(certificate).toString('base64'), { certificate, tainted: false })
      } else if (jwk.use === 'jwt-svid') {
        const authority = readJwtAuthority(jwk)
        if (jwtAuthorities.has(authority.keyId)) skip(`kid ${JSON.stringify(authority.keyId)} is repeated`)
        else jwtAuthorities.set(authority.keyId, authority)
      } else {
        skip(`use ${typeof jwk.use === 'string' ? JSON.stringify(jwk.use) : 'is missing or no string and so'} is unknown`)
      }
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      skip(error.message)
    }
  }
  return {
    trustDomain,
    x509Authorities: [...x509Authorities.values()],
    jwtAuthorities: [...jwtAuthorities.values()],
    sequenceNumber: readSequence(sequence),
    refreshHintSeconds: readHint(hint)
  }
}

export interface BundleFormat {
  /** Spaces per level; none writes one line. */
  readonly indent?: number
}

/** Writes a SPIFFE bundle: X.509 keys, then JWT keys, each in the bundle's order. @throws {SpiffeError} `key_unsupported` */
export function formatBundleDocument (bundle: Bundle, { indent }: BundleFormat = {}): string {
  return formatJson(bundleObject(bundle), indent)
}

/** The members of a SPIFFE bundle, in SPIRE's order; sequence and hint only if the bundle has them. */
export function bundleObject (bundle: Bundle): Record<string, unknown> {
  const x509Keys = bundle.x509Authorities.map(({ certificate }) => {
    const { kty, ...members } = formatPublicJwk(readCaKey(certificate))
    return { use: 'x509-svid', kty, ...members, x5c: [Buffer.from(certificate).toString('base64')] }
  })
  const jwtKeys = bundle.jwtAuthorities.map(({ keyId, publicKey }) => {
    const { kty, ...members } = formatPublicJwk(publicKey)
    return { use: 'jwt-svid', kty, kid: keyId, ...members }
  })
  return {
    keys: [...x509Keys, ...jwtKeys],
    ...bundle.sequenceNumber === undefined ? {} : { spiffe_sequence: bundle.sequenceNumber },
    ...bundle.refreshHintSeconds === undefined ? {} : { spiffe_refresh_hint: bundle.refreshHintSeconds }
  }
}

/** The JWT keys alone as a plain JWK Set, without `use` and `spiffe_*`: what the Workload API hands out (AMB-12, WLAPI-26). */
export function formatJwtBundle (bundle: Bundle): string {
  const keys = bundle.jwtAuthorities.map(({ keyId, publicKey }) => {
    const { kty, ...members } = formatPublicJwk(publicKey)
    return { kty, kid: keyId, ...members }
  })
  return formatJson({ keys })
}

/** The certificate of an `x509-svid` key: `x5c[0]`, later values ignored (X509-23, X509-25). */
function readCertificate (jwk: JsonObject): Uint8Array {
  if (jwk.kty !== 'EC' && jwk.kty !== 'RSA') parsePublicJwk(jwk)
  const first = Array.isArray(jwk.x5c) ? (jwk.x5c as JsonValue[])[0] : undefined
  if (typeof first !== 'string') throw malformed('X509-25', 'x5c is missing or empty')
  const der = Buffer.from(first, 'base64')
  if (der.toString('base64') !== first) throw malformed('X509-23', 'x5c[0] is no padded standard base64')
  const hasKey = jwk.x !== undefined || jwk.n !== undefined
  const spki = readCaKey(der)
  if (hasKey && !spki.equals(parsePublicJwk(jwk))) throw malformed('X509-22', 'x5c[0] holds another key (RFC 7517 §4.7)')
  formatPublicJwk(spki)
  return new Uint8Array(der)
}

function readJwtAuthority (jwk: JsonObject): JwtAuthority {
  if (typeof jwk.kid !== 'string' || jwk.kid === '') throw malformed('JWT-18', 'kid is missing or empty')
  return { keyId: jwk.kid, publicKey: parsePublicJwk(jwk), tainted: false }
}

/** The public key of a CA certificate, as SubjectPublicKeyInfo in DER. */
function readCaKey (der: Uint8Array): Buffer {
  let certificate, spki
  try {
    certificate = new X509Certificate(der)
    spki = certificate.publicKey.export({ format: 'der', type: 'spki' })
  } catch (error) {
    const rule = 'not a certificate in DER, or its key is of no known kind'
    throw new SpiffeError('bundle_malformed', rule, { cause: error, requirement: 'X509-23' })
  }
  // OpenSSL reads the first certificate and says nothing of what follows (TS-06).
  if (!certificate.raw.equals(der)) throw malformed('X509-23', 'more than one certificate in DER')
  if (!certificate.ca) throw malformed('X509-07', 'not a CA certificate')
  return spki
}

function readSequence (value: JsonValue | undefined): bigint | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'bigint' && !Number.isSafeInteger(value)) throw malformed('TDB-06', 'spiffe_sequence is no integer')
  const sequence = BigInt(value as number | bigint)
  if (sequence < 0n || sequence > maxSequence) throw malformed('TDB-07', 'spiffe_sequence does not fit 64 bits')
  return sequence
}

function readHint (value: JsonValue | undefined): number | undefined {
  if (value === undefined) return undefined
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw malformed('TDB-08', 'spiffe_refresh_hint is no whole number of seconds')
  return value as number
}

function malformed (requirement: string, message: string): SpiffeError {
  return new SpiffeError('bundle_malformed', message, { requirement })
}

import { createPublicKey, type JsonWebKey } from 'node:crypto'
import { SpiffeError } from './errors.ts'
import type { JsonObject, JsonValue } from './strict-json.ts'

/** A public key as a JWK (RFC 7517): only `kty` and the key's own members. */
export type PublicJwk =
  | { readonly kty: 'EC', readonly crv: string, readonly x: string, readonly y: string }
  | { readonly kty: 'RSA', readonly n: string, readonly e: string }

/** Length of a coordinate in bytes (RFC 7518 §6.2.1.2), by curve. */
const coordinateBytes: Readonly<Record<string, number>> = { 'P-256': 32, 'P-384': 48, 'P-521': 66 }
const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

/** @param spki SubjectPublicKeyInfo, DER. @throws {SpiffeError} `key_unsupported` */
export function formatPublicJwk (spki: Uint8Array): PublicJwk {
  const { kty, crv, x, y, n, e } = exportJwk(spki)
  if (kty === 'EC' && crv !== undefined && crv in coordinateBytes && x !== undefined && y !== undefined) return { kty, crv, x, y }
  if (kty === 'RSA' && n !== undefined && e !== undefined) return { kty, n, e }
  throw new SpiffeError('key_unsupported', `a key of type ${String(crv ?? kty)} signs no SVID`)
}

/**
 * Reads a public key for the algorithms of JWT-SVID §2.1: P-256, P-384, P-521, or RSA of 2048 to 8192 bits (AMB-24).
 * Members other than the key's own are ignored; a private one is refused, as whoever read the document can sign with it.
 * @returns SubjectPublicKeyInfo, DER
 * @throws {SpiffeError} `key_unsupported`
 */
export function parsePublicJwk (jwk: JsonObject): Uint8Array {
  const secret = privateMembers.find(name => name in jwk)
  if (secret !== undefined) throw new SpiffeError('key_unsupported', `private member ${secret} is published`)
  if (jwk.kty === 'EC') return parseEcKey(jwk)
  if (jwk.kty === 'RSA') return parseRsaKey(jwk)
  throw new SpiffeError('key_unsupported', `kty ${JSON.stringify(jwk.kty ?? null)} is unknown`, { requirement: 'TDB-11' })
}

function parseEcKey ({ crv, x, y }: JsonObject): Uint8Array {
  const length = typeof crv === 'string' && Object.hasOwn(coordinateBytes, crv) ? coordinateBytes[crv] : undefined
  if (length === undefined) throw new SpiffeError('key_unsupported', 'crv is none of P-256, P-384, P-521')
  for (const [name, value] of [['x', x], ['y', y]] as const) {
    if (decodeBase64url(value)?.length !== length) throw new SpiffeError('key_unsupported', `${name} is not ${length} bytes of base64url`)
  }
  return importJwk({ kty: 'EC', crv, x, y })
}

function parseRsaKey ({ n, e }: JsonObject): Uint8Array {
  const bits = bitLength(decodeBase64url(n))
  if (bits < 2048 || bits > 8192) throw new SpiffeError('key_unsupported', `RSA modulus of ${bits} bits is outside 2048 to 8192`)
  const exponent = decodeBase64url(e)
  const exponentBits = bitLength(exponent)
  if (exponentBits < 2 || exponentBits > 32 || exponent!.at(-1)! % 2 === 0) {
    throw new SpiffeError('key_unsupported', 'RSA exponent is not an odd number of 2 to 32 bits')
  }
  return importJwk({ kty: 'RSA', n, e })
}

function importJwk (jwk: Record<string, unknown>): Uint8Array {
  try {
    return new Uint8Array(createPublicKey({ key: jwk, format: 'jwk' }).export({ format: 'der', type: 'spki' }))
  } catch (error) {
    throw new SpiffeError('key_unsupported', 'not a point on the curve, or no usable key', { cause: error })
  }
}

function exportJwk (spki: Uint8Array): JsonWebKey {
  try {
    return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' }).export({ format: 'jwk' })
  } catch (error) {
    throw new SpiffeError('key_unsupported', 'public key is no SubjectPublicKeyInfo in DER, or of a kind that no JWK has', { cause: error })
  }
}

/** Canonical only: no padding, no white space, no stray bits at the end. */
function decodeBase64url (value: JsonValue | undefined): Buffer | undefined {
  if (typeof value !== 'string' || value === '') return undefined
  const bytes = Buffer.from(value, 'base64url')
  return bytes.toString('base64url') === value ? bytes : undefined
}

function bitLength (bytes: Uint8Array | undefined): number {
  const first = bytes?.findIndex(byte => byte !== 0) ?? -1
  return bytes === undefined || first < 0 ? 0 : (bytes.length - first) * 8 - (Math.clz32(bytes[first]!) - 24)
}

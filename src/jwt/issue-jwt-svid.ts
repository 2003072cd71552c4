import { SpiffeError } from '../spiffe/errors.ts'
import { pathOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { Signer } from '../x509/signer.ts'
import { checkAudience } from './audience.ts'
import { jwsNameOfKeyType } from './jws-algorithm.ts'

export interface JwtSvidClaims {
  readonly id: SpiffeId
  readonly audience: readonly string[]
  /** Fractions of a second are cut off, here and in `expiresAt`. */
  readonly issuedAt: Date
  readonly expiresAt: Date
  readonly issuer?: string
  readonly jti?: string
}

export interface JwtSigningKey {
  /** The `kid` under which the bundle has the key. */
  readonly keyId: string
  readonly signer: Signer
}

/** The encoded header last used with a signer. */
const headers = new WeakMap<Signer, { readonly keyId: string, readonly header: string }>()

/**
 * Issues a JWT-SVID: header `alg`, `kid`, `typ` and nothing else (JWT-02); `aud` always a list.
 * @returns compact JWS. Secret: a bearer token.
 * @throws {SpiffeError} `argument_invalid` for an unusable audience or life; `spiffe_id_not_allowed` for an ID without a path (AMB-18)
 */
export async function issueJwtSvid (claims: JwtSvidClaims, key: JwtSigningKey): Promise<string> {
  const { id, issuer, jti } = claims
  if (pathOf(id) === '') throw new SpiffeError('spiffe_id_not_allowed', `${id} has no path`, { requirement: 'AMB-18' })
  const [iat, exp] = [wholeSeconds(claims.issuedAt), wholeSeconds(claims.expiresAt)]
  if (!(exp > iat)) throw new SpiffeError('argument_invalid', 'a JWT-SVID that ends before it begins is not issued')
  return await signJwtSvid({ aud: checkAudience(claims.audience), exp, iat, iss: issuer, jti, sub: id }, key)
}

/** The same of claims that were checked elsewhere. @returns compact JWS. Secret: a bearer token. */
export async function signJwtSvid (claims: Readonly<Record<string, unknown>>, key: JwtSigningKey): Promise<string> {
  const signingInput = `${headerOf(key)}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}`
  const signature = await sign(key.signer, Buffer.from(signingInput, 'latin1'))
  return `${signingInput}.${Buffer.from(signature.buffer, signature.byteOffset, signature.byteLength).toString('base64url')}`
}

/** One ECDSA signature is cheaper than the way to the thread pool and back; one of RSA would hold up the event loop. */
function sign (signer: Signer, data: Uint8Array): Uint8Array | Promise<Uint8Array> {
  return signer.type === 'ec-p256' && signer.signSync !== undefined ? signer.signSync(data, 'ieee-p1363') : signer.sign(data, 'ieee-p1363')
}

function headerOf ({ keyId, signer }: JwtSigningKey): string {
  const known = headers.get(signer)
  if (known?.keyId === keyId) return known.header
  const header = Buffer.from(JSON.stringify({ alg: jwsNameOfKeyType[signer.type], kid: keyId, typ: 'JWT' })).toString('base64url')
  headers.set(signer, { keyId, header })
  return header
}

function wholeSeconds (time: Date): number { return Math.floor(time.getTime() / 1000) }

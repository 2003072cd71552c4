import { createHash } from 'node:crypto'
import type { JwtAuthority } from '../spiffe/bundle.ts'
import { formatJson } from '../spiffe/format-json.ts'
import { formatPublicJwk, type PublicJwk } from '../spiffe/json-web-key.ts'

/** A document as it is served. */
export interface Document {
  readonly body: Buffer
  /** Strong, in quotes (RFC 9110 §8.8.3): equal exactly when the bodies are. */
  readonly etag: string
}

/** SPIRE's list (spire-surface §8.1), whatever keys there are. */
const signingAlgorithms = ['RS256', 'ES256', 'ES384']
const algorithmOfCurve: Readonly<Record<string, string>> = { 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512' }

/** OpenID Connect Discovery 1.0 §3, in SPIRE's order of members. @param jwksUri absolute, like the issuer */
export function discoveryDocument (issuer: string, jwksUri: string): Document {
  return documentOf({
    issuer,
    jwks_uri: jwksUri,
    authorization_endpoint: '',
    response_types_supported: ['id_token'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: signingAlgorithms
  })
}

export interface JwksFormat {
  /** Says `use: sig` with each key. */
  readonly setKeyUse: boolean
}

/** A JWK Set (RFC 7517 §5), each key with the one algorithm that our servers sign with it. @throws {SpiffeError} `key_unsupported` */
export function jwksDocument (keys: readonly JwtAuthority[], { setKeyUse }: JwksFormat): Document {
  return documentOf({
    keys: keys.map(({ keyId, publicKey }) => {
      const { kty, ...members } = formatPublicJwk(publicKey)
      const jwk = { kty, ...members } as PublicJwk
      return { ...setKeyUse ? { use: 'sig' } : {}, kid: keyId, alg: jwk.kty === 'RSA' ? 'RS256' : algorithmOfCurve[jwk.crv], ...jwk }
    })
  })
}

function documentOf (value: object): Document {
  const body = Buffer.from(`${formatJson(value, 2)}\n`)
  return { body, etag: `"${createHash('sha256').update(body).digest('base64url')}"` }
}

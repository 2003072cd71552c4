import { createPublicKey } from 'node:crypto'
import type { JwtAuthority } from '../spiffe/bundle.ts'

/**
 * A plain RFC 7517 JWK Set of JWT signing keys (WLAPI-25, WLAPI-26): without `use` and `spiffe_*` members, so that consumers
 * that look for `sig` keep working (AMB-12).
 */
export function encodeJwkSet (authorities: readonly JwtAuthority[]): Uint8Array {
  const keys = authorities.map(({ keyId, publicKey }) => {
    const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' })
    return { kid: keyId, ...key.export({ format: 'jwk' }) }
  })
  return Buffer.from(JSON.stringify({ keys }))
}

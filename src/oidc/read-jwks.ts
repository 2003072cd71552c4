import type { JwtAuthority } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parsePublicJwk } from '../spiffe/json-web-key.ts'
import { isJsonObject, type JsonValue, parseStrictJsonObject } from '../spiffe/strict-json.ts'

/**
 * Reads a plain JWK Set of public keys, as the Workload API hands out JWT bundles (WLAPI-26). Keys of another `use` than `jwt-svid` or
 * `sig`, without a `kid`, or of a kind that signs no JWT-SVID, are left out.
 * @throws {SpiffeError} `bundle_malformed`
 */
export function readJwks (text: string | Uint8Array): readonly JwtAuthority[] {
  let keys: JsonValue | undefined
  try {
    ({ keys } = parseStrictJsonObject(text))
  } catch (error) {
    throw new SpiffeError('bundle_malformed', (error as Error).message, { cause: error, requirement: 'TDB-01' })
  }
  if (!Array.isArray(keys)) throw new SpiffeError('bundle_malformed', 'keys is missing or no array', { requirement: 'TDB-10' })
  return (keys as JsonValue[]).flatMap(jwk => {
    if (!isJsonObject(jwk)) throw new SpiffeError('bundle_malformed', 'a key is no object', { requirement: 'TDB-01' })
    const { kid, use } = jwk
    if (typeof kid !== 'string' || kid === '' || (use !== undefined && use !== 'jwt-svid' && use !== 'sig')) return []
    try {
      return [{ keyId: kid, publicKey: parsePublicJwk(jwk), tainted: false }]
    } catch (error) {
      if (error instanceof SpiffeError) return []
      throw error
    }
  })
}

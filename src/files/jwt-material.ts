import { SpiffeError } from '../spiffe/errors.ts'
import type { JWTBundlesResponse, JWTSVIDResponse } from '../wire/generated/workload.ts'
import { parseToken } from '../jwt/parse-token.ts'
import { chooseByHint } from './x509-material.ts'

/** By the trust domain's name, without `spiffe://`, as spiffe-helper writes them. */
export function readJwtBundles ({ bundles }: JWTBundlesResponse): ReadonlyMap<string, Uint8Array> {
  return new Map(Object.entries(bundles).map(([name, keys]) => [name.replace(/^spiffe:\/\//, ''), keys]))
}

/**
 * The token to write. It is not verified: the agent made it, over a socket that is its own.
 * @throws {SpiffeError} `hint_not_found`, `jwt_svid_malformed`
 */
export function readJwtSvid ({ svids }: JWTSVIDResponse, hint: string | undefined): { readonly token: string, readonly expiresAt: Date } {
  const { svid: token } = chooseByHint(svids, hint)
  const { exp } = parseToken(token).claims
  if (typeof exp !== 'number' || !(exp > 0 && exp < 1e11)) throw new SpiffeError('jwt_svid_malformed', 'the token has no usable exp')
  return { token, expiresAt: new Date(exp * 1_000) }
}

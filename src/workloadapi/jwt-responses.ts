import { formatJwtBundle } from '../spiffe/bundle-document.ts'
import type { JwtSvid, WorkloadIdentity } from '../spiffe/svid.ts'
import type { JWTBundlesResponseInit, JWTSVIDResponseInit } from '../wire/generated/workload.ts'
import { withUniqueHints } from './unique-hints.ts'
import { bundleMap, foreign } from './x509-responses.ts'

export function jwtSvidResponse (svids: readonly JwtSvid[]): JWTSVIDResponseInit {
  return { svids: withUniqueHints(svids).map(({ id, token, hint }) => ({ spiffeId: id, svid: token, hint })) }
}

/** JWK Sets by domain ID, the own domain's among them (WLAPI-25). */
export function jwtBundlesResponse ({ bundle, federatedBundles }: WorkloadIdentity): JWTBundlesResponseInit {
  return { bundles: bundleMap([bundle, ...foreign(bundle, federatedBundles.values())], one => Buffer.from(formatJwtBundle(one))) }
}

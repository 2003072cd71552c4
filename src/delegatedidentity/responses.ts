import type { Bundle } from '../spiffe/bundle.ts'
import { formatJwtBundle } from '../spiffe/bundle-document.ts'
import { trustDomainId } from '../spiffe/spiffe-id.ts'
import type { JwtSvid, WorkloadIdentity } from '../spiffe/svid.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type {
  FetchJWTSVIDsResponseInit, SubscribeToJWTBundlesResponseInit, SubscribeToX509BundlesResponseInit, SubscribeToX509SVIDsResponseInit
} from '../wire/generated/delegated-identity.ts'
import { encodeSpiffeId } from '../wire/spiffe-id-codec.ts'
import { bundleMap, foreign } from '../workloadapi/x509-responses.ts'

interface Bundles { readonly bundle: Bundle, readonly federatedBundles: ReadonlyMap<TrustDomain, Bundle> }

/** All of them, none as an empty list: what is missing has been taken away. */
export function x509SvidsResponse ({ svids, federatedBundles }: WorkloadIdentity): SubscribeToX509SVIDsResponseInit {
  return {
    x509Svids: svids.map(({ id, chain, notAfter, hint, privateKey }) => ({
      x509Svid: { id: encodeSpiffeId(id), certChain: chain, expiresAt: unixSeconds(notAfter), hint },
      x509SvidKey: privateKey
    })),
    federatesWith: [...federatedBundles.keys()].map(trustDomainId).toSorted()
  }
}

/** Own and federated, DER back to back, by `spiffe://<trust domain>`. */
export function x509BundlesResponse ({ bundle, federatedBundles }: Bundles): SubscribeToX509BundlesResponseInit {
  const encode = ({ x509Authorities }: Bundle) => Buffer.concat(x509Authorities.map(({ certificate }) => certificate))
  return { caCertificates: bundleMap([bundle, ...foreign(bundle, federatedBundles.values())], encode) }
}

/** The same as JWK Sets. */
export function jwtBundlesResponse ({ bundle, federatedBundles }: Bundles): SubscribeToJWTBundlesResponseInit {
  return { bundles: bundleMap([bundle, ...foreign(bundle, federatedBundles.values())], one => Buffer.from(formatJwtBundle(one))) }
}

export function jwtSvidsResponse (svids: readonly JwtSvid[]): FetchJWTSVIDsResponseInit {
  return {
    svids: svids.map(({ id, token, issuedAt, expiresAt, hint }) =>
      ({ id: encodeSpiffeId(id), token, issuedAt: unixSeconds(issuedAt), expiresAt: unixSeconds(expiresAt), hint }))
  }
}

function unixSeconds (date: Date): number { return Math.floor(date.getTime() / 1000) }

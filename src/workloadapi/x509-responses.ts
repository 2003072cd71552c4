import type { Bundle } from '../spiffe/bundle.ts'
import { trustDomainId } from '../spiffe/spiffe-id.ts'
import type { WorkloadIdentity } from '../spiffe/svid.ts'
import type { X509BundlesResponseInit, X509SVIDResponseInit } from '../wire/generated/workload.ts'
import { withUniqueHints } from './unique-hints.ts'

/** The whole state (WLAPI-07): all identities, the default first; the own domain's bundle is in each, only foreign ones beside them. */
export function x509SvidResponse ({ svids, bundle, federatedBundles }: WorkloadIdentity): X509SVIDResponseInit {
  const own = authoritiesOf(bundle)
  return {
    svids: withUniqueHints(svids).map(svid => ({
      spiffeId: svid.id,
      x509Svid: Buffer.concat(svid.chain),
      x509SvidKey: svid.privateKey,
      bundle: own,
      hint: svid.hint
    })),
    federatedBundles: bundleMap(foreign(bundle, federatedBundles.values()), authoritiesOf)
  }
}

/** The own domain's bundle and the foreign ones, by domain ID (WLAPI-19). */
export function x509BundlesResponse ({ bundle, federatedBundles }: WorkloadIdentity): X509BundlesResponseInit {
  return { bundles: bundleMap([bundle, ...foreign(bundle, federatedBundles.values())], authoritiesOf) }
}

/** Sorted, so that equal states encode equally. */
export function bundleMap (bundles: readonly Bundle[], encode: (bundle: Bundle) => Uint8Array): Map<string, Uint8Array> {
  const sorted = bundles.toSorted((a, b) => a.trustDomain < b.trustDomain ? -1 : 1)
  return new Map(sorted.map(bundle => [trustDomainId(bundle.trustDomain), encode(bundle)]))
}

export function foreign (own: Bundle, bundles: Iterable<Bundle>): Bundle[] {
  return [...bundles].filter(bundle => bundle.trustDomain !== own.trustDomain)
}

/** DER certificates back to back (AMB-20). */
function authoritiesOf (bundle: Bundle): Uint8Array {
  return Buffer.concat(bundle.x509Authorities.map(authority => authority.certificate))
}

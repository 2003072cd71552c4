import { EndpointPlace, FilePlace } from '../../federation/client/document-place.ts'
import { EndpointSource } from '../../federation/client/endpoint-source.ts'
import type { FetchDeps } from '../../federation/client/fetch-document.ts'
import { defaultFetchLimits } from '../../federation/client/fetch-limits.ts'
import { FileSource } from '../../federation/client/file-source.ts'
import type { FollowPartnerOptions } from '../../federation/client/follow-partner.ts'
import type { PartnerSource } from '../../federation/client/partner-source.ts'
import { SignedSource } from '../../federation/client/signed-source.ts'
import type { BundleEndpoint } from '../../spiffe/bundle-endpoint.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { BundleCopy } from './bundle-copies.ts'

/** The partner's endpoint, then its copies as the configuration has them. */
export function sourcesOf (endpoint: BundleEndpoint, copies: readonly BundleCopy[], deps: FetchDeps): FollowPartnerOptions['sources'] {
  return [new EndpointSource(endpoint, deps), ...copies.map(copy => sourceOf(copy, endpoint.trustDomain, deps))]
}

function sourceOf (copy: BundleCopy, trustDomain: TrustDomain, deps: FetchDeps): PartnerSource {
  if (copy.signed) {
    const place = copy.kind === 'file' ? new FilePlace(copy.path, defaultFetchLimits) : new EndpointPlace({ trustDomain, ...copy }, deps)
    return new SignedSource(place, trustDomain, { lastGood: async () => await deps.bundleOf(trustDomain), clock: deps.clock })
  }
  return copy.kind === 'file' ? new FileSource(copy.path, trustDomain) : new EndpointSource({ trustDomain, ...copy }, deps, 'copy')
}

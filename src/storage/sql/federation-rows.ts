import type { BundleEndpointProfile, BundleEndpointUrl } from '../../spiffe/bundle-endpoint.ts'
import type { FederationRelationship } from '../../spiffe/federation-relationship.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { FederationRow } from './schema.ts'

export function encodeFederation ({ trustDomain, endpoint: { url, profile } }: FederationRelationship): Omit<FederationRow, 'row_id'> {
  return {
    trust_domain: trustDomain,
    bundle_endpoint_url: url,
    bundle_endpoint_profile: profile.kind,
    endpoint_spiffe_id: profile.kind === 'https_spiffe' ? profile.endpointId : null
  }
}

export function decodeFederation (row: FederationRow): FederationRelationship {
  const id = row.endpoint_spiffe_id as SpiffeId | null
  const profile: BundleEndpointProfile = id === null ? { kind: 'https_web' } : { kind: 'https_spiffe', endpointId: id }
  return { trustDomain: row.trust_domain as TrustDomain, endpoint: { url: row.bundle_endpoint_url as BundleEndpointUrl, profile } }
}

import type { Bundle } from '../spiffe/bundle.ts'
import type { FederationRelationship, RawFederationRelationship } from '../spiffe/federation-relationship.ts'
import { encodeBundle } from './bundle-codec.ts'
import type {
  FederationRelationship as RelationshipMessage, FederationRelationshipInit, FederationRelationshipMask
} from './generated/types.ts'

/**
 * @param bundle the domain's, if there is one
 * @param mask fields to keep; the trust domain is always kept, everything without a mask (spire-surface §1.7)
 */
export function encodeFederation (
  { trustDomain, endpoint: { url, profile } }: FederationRelationship, bundle: Bundle | undefined, mask?: FederationRelationshipMask
): FederationRelationshipInit {
  return {
    trustDomain,
    ...mask?.bundleEndpointUrl === false ? {} : { bundleEndpointUrl: url },
    ...mask?.bundleEndpointProfile === false ? {} : encodeProfile(profile),
    ...mask?.trustDomainBundle === false || bundle === undefined ? {} : { trustDomainBundle: encodeBundle(bundle) }
  }
}

function encodeProfile (profile: FederationRelationship['endpoint']['profile']): FederationRelationshipInit {
  if (profile.kind === 'https_web') return { httpsWeb: {} }
  return { httpsSpiffe: { endpointSpiffeId: profile.endpointId } }
}

/** Not looked into here: what reads it says what is wrong with it. */
export function decodeFederation (message: RelationshipMessage): RawFederationRelationship {
  return {
    trustDomain: message.trustDomain,
    url: message.bundleEndpointUrl,
    httpsWeb: message.httpsWeb !== undefined,
    httpsSpiffe: message.httpsSpiffe?.endpointSpiffeId
  }
}

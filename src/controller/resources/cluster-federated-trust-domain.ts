import { z } from 'zod'
import type { Bundle } from '../../spiffe/bundle.ts'
import { readBundle } from '../../spiffe/bundle-document.ts'
import { type FederationRelationship, parseFederationRelationship } from '../../spiffe/federation-relationship.ts'
import { parseStrictJsonObject } from '../../spiffe/strict-json.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { KubeObject } from '../kubernetes/kube-object.ts'
import { field, optionalText, readSpec, type Resource, resourceOf, specMalformed } from './resource.ts'

export interface ClusterFederatedTrustDomainSpec {
  readonly relationship: FederationRelationship
  /** To begin with, until the endpoint was asked. */
  readonly bundle: Bundle | undefined
}

export type ClusterFederatedTrustDomain = Resource<ClusterFederatedTrustDomainSpec>

const schema = z.looseObject({
  trustDomain: z.string(),
  bundleEndpointURL: z.string(),
  bundleEndpointProfile: z.looseObject({ type: z.enum(['https_spiffe', 'https_web']), endpointSPIFFEID: optionalText }),
  trustDomainBundle: optionalText
})

/** @param own with which nothing federates */
export function readClusterFederatedTrustDomain (object: KubeObject, own: TrustDomain): ClusterFederatedTrustDomain {
  return resourceOf('ClusterFederatedTrustDomain', object, raw => {
    const { trustDomain, bundleEndpointURL: url, bundleEndpointProfile: profile, trustDomainBundle: bundle } = readSpec(schema, raw)
    const isWeb = profile.type === 'https_web'
    if (isWeb && profile.endpointSPIFFEID !== '') throw specMalformed('bundleEndpointProfile.endpointSPIFFEID', 'is of https_spiffe alone')
    const relationship = field('', () => parseFederationRelationship({
      trustDomain, url, httpsWeb: isWeb, httpsSpiffe: isWeb ? undefined : profile.endpointSPIFFEID
    }, own))
    return {
      relationship,
      bundle: bundle === ''
        ? undefined
        : field('trustDomainBundle', () => readBundle(parseStrictJsonObject(bundle), relationship.trustDomain))
    }
  })
}

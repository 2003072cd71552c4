import { parseBundleEndpointUrl, type BundleEndpoint, type BundleEndpointProfile } from './bundle-endpoint.ts'
import { SpiffeError } from './errors.ts'
import { parseSpiffeId, parseTrustDomainOrId } from './spiffe-id.ts'
import { checkForeign, type TrustDomain } from './trust-domain.ts'

/** That the bundle of a foreign trust domain is fetched, and from where; one-way (FED-30). The bundle itself is kept beside all others. */
export interface FederationRelationship {
  readonly trustDomain: TrustDomain
  readonly endpoint: Omit<BundleEndpoint, 'trustDomain'>
}

/** A relationship as somebody wrote it. Exactly one profile must be there. */
export interface RawFederationRelationship {
  readonly trustDomain: string
  readonly url: string
  readonly httpsWeb: boolean
  /** `https_spiffe`: the endpoint's SPIFFE ID, which may be empty in what was sent. */
  readonly httpsSpiffe: string | undefined
}

/**
 * Reads all of a relationship: the three values without which none is usable (FED-12).
 * @throws {SpiffeError} `federation_malformed`, naming the field; `federation_invalid` for the own domain (ID-13)
 */
export function parseFederationRelationship (raw: RawFederationRelationship, own: TrustDomain): FederationRelationship {
  return {
    trustDomain: parsePartner(raw.trustDomain, own),
    endpoint: { url: parseEndpointUrl(raw.url), profile: parseBundleEndpointProfile(raw) }
  }
}

/** @throws {SpiffeError} `federation_malformed`, `federation_invalid` */
export function parsePartner (name: string, own: TrustDomain): TrustDomain {
  return checkForeign(field('trust_domain', () => parseTrustDomainOrId(name)), own)
}

/** @throws {SpiffeError} `federation_malformed` */
export function parseEndpointUrl (url: string): BundleEndpoint['url'] {
  if (url === '') throw malformed('bundle_endpoint_url', 'is missing', 'FED-12')
  return field('bundle_endpoint_url', () => parseBundleEndpointUrl(url))
}

/** @throws {SpiffeError} `federation_malformed` */
export function parseBundleEndpointProfile (
  { httpsWeb, httpsSpiffe }: Pick<RawFederationRelationship, 'httpsWeb' | 'httpsSpiffe'>
): BundleEndpointProfile {
  if (httpsWeb === (httpsSpiffe !== undefined)) {
    throw malformed('bundle_endpoint_profile', httpsWeb ? 'is both https_web and https_spiffe' : 'is missing', 'FED-12')
  }
  if (httpsSpiffe === undefined) return { kind: 'https_web' }
  if (httpsSpiffe === '') throw malformed('endpoint_spiffe_id', 'is missing: https_spiffe knows the endpoint by it', 'FED-24')
  return { kind: 'https_spiffe', endpointId: field('endpoint_spiffe_id', () => parseSpiffeId(httpsSpiffe)) }
}

function field<T> (name: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw malformed(name, error.message, error.requirement, error)
  }
}

function malformed (name: string, rule: string, requirement?: string, cause?: unknown): SpiffeError {
  return new SpiffeError('federation_malformed', `invalid ${name}: ${rule}`, { requirement, cause })
}

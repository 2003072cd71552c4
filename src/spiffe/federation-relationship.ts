import { SpiffeError } from './errors.ts'
import { parseSpiffeId, type SpiffeId } from './spiffe-id.ts'
import { checkForeign, parseTrustDomain, type TrustDomain } from './trust-domain.ts'

/**
 * How the server of a bundle is known (Federation §5.2): by a certificate that the web's authorities vouch for, or by its SPIFFE ID, for
 * which the bundle of that ID's own trust domain vouches. Never inferred, and neither stands in for the other (FED-13).
 */
export type BundleEndpointProfile =
  | { readonly kind: 'https_web' }
  | { readonly kind: 'https_spiffe', readonly endpointSpiffeId: SpiffeId }

/** Where a trust domain publishes its bundle. */
export interface BundleEndpoint {
  /** As the operator wrote it: clients compare it with what they declared. */
  readonly url: string
  readonly profile: BundleEndpointProfile
}

/** That the bundle of a foreign trust domain is fetched, and from where; one-way (FED-30). The bundle itself is kept beside all others. */
export interface FederationRelationship {
  readonly trustDomain: TrustDomain
  readonly endpoint: BundleEndpoint
}

/** A relationship as somebody wrote it. Exactly one profile must be there. */
export interface RawFederationRelationship {
  readonly trustDomain: string
  readonly url: string
  readonly httpsWeb: boolean
  /** `https_spiffe`: the endpoint's SPIFFE ID, which may be empty in what was sent. */
  readonly httpsSpiffe: string | undefined
}

const mostUrlCharacters = 2_048

/**
 * Reads all of a relationship: the three values without which none is usable (FED-12).
 * @throws {SpiffeError} `federation_malformed`, naming the field; `federation_invalid` for the own domain (ID-13)
 */
export function parseFederationRelationship (raw: RawFederationRelationship, own: TrustDomain): FederationRelationship {
  return {
    trustDomain: parsePartner(raw.trustDomain, own),
    endpoint: { url: parseBundleEndpointUrl(raw.url), profile: parseBundleEndpointProfile(raw) }
  }
}

/** @throws {SpiffeError} `federation_malformed`, `federation_invalid` */
export function parsePartner (name: string, own: TrustDomain): TrustDomain {
  const bare = name.startsWith('spiffe://') ? name.slice('spiffe://'.length) : name
  return checkForeign(field('trust_domain', () => parseTrustDomain(bare)), own)
}

/**
 * An `https` URL with a host and without userinfo; port, path and query are free (FED-15). Kept to the letter.
 * @param url at most 2048 printable ASCII characters, without a fragment: no server would ever see one
 * @throws {SpiffeError} `federation_malformed`
 */
export function parseBundleEndpointUrl (url: string): string {
  const shown = JSON.stringify(url.slice(0, 200))
  const refuse = (rule: string, cause?: unknown) => malformed('bundle_endpoint_url', `${rule}: ${shown}`, 'FED-15', cause)
  if (url === '') throw malformed('bundle_endpoint_url', 'is missing', 'FED-12')
  if (url.length > mostUrlCharacters) throw refuse(`is longer than ${mostUrlCharacters} characters`)
  // What a URL parser would drop, turn round or encode: another reader of the same text must not see another host.
  if (!/^[!-~]+$/.test(url) || url.includes('\\')) throw refuse('has a character other than printable ASCII, or a backslash')
  if (!/^https:/i.test(url)) throw refuse('must use the https scheme')
  const authority = /^https:\/\/([^/?#]*)/i.exec(url)?.[1] ?? ''
  if (authority.includes('@')) throw malformed('bundle_endpoint_url', 'must not contain user information', 'FED-15')
  if (authority === '' || authority.startsWith(':')) throw refuse('has no host')
  if (url.includes('#')) throw refuse('has a fragment')
  try {
    return (new URL(url), url)
  } catch (error) {
    throw refuse('is no URL', error)
  }
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
  return { kind: 'https_spiffe', endpointSpiffeId: field('endpoint_spiffe_id', () => parseSpiffeId(httpsSpiffe)) }
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

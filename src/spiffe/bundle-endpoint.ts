import { SpiffeError } from './errors.ts'
import { parseSpiffeId, trustDomainOf, type SpiffeId } from './spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from './trust-domain.ts'

declare const parsed: unique symbol
/** Where a bundle is served, e.g. `https://partner.test/bundle`; holding one proves that it was parsed. */
export type BundleEndpointUrl = string & { readonly [parsed]: 'BundleEndpointUrl' }

/** How whoever serves a bundle proves who it is (Federation §5.2). */
export type BundleEndpointProfile =
  | { readonly kind: 'https_web' }
  | { readonly kind: 'https_spiffe', readonly endpointId: SpiffeId }

/** Where and how the bundle of one trust domain is fetched: three values, none of which follows from another (FED-12, FED-13). */
export interface BundleEndpoint {
  /** Whose bundle is there. */
  readonly trustDomain: TrustDomain
  readonly url: BundleEndpointUrl
  readonly profile: BundleEndpointProfile
}

/** As an operator or a caller gives it: nothing is believed yet. */
export interface BundleEndpointText {
  readonly trustDomain?: string | undefined
  readonly url?: string | undefined
  /** `https_web` or `https_spiffe`. */
  readonly profile?: string | undefined
  /** Of `https_spiffe` alone. */
  readonly endpointId?: string | undefined
}

const maxUrlBytes = 2048

/**
 * Reads the parameters of a relationship (Federation §5.1).
 * @throws {SpiffeError} `bundle_endpoint_malformed`, `trust_domain_malformed`, `spiffe_id_malformed`
 */
export function parseBundleEndpoint ({ trustDomain, url, profile, endpointId }: BundleEndpointText): BundleEndpoint {
  if (trustDomain === undefined || trustDomain === '') throw malformed('FED-12', 'the trust domain is missing')
  if (url === undefined || url === '') throw malformed('FED-12', 'the URL is missing')
  if (profile === undefined || profile === '') throw malformed('FED-12', 'the profile is missing: https_web or https_spiffe')
  return { trustDomain: parseTrustDomain(trustDomain), url: parseBundleEndpointUrl(url), profile: readProfile(profile, endpointId) }
}

/**
 * Reads an endpoint's URL: `https`, a host, no user (FED-15), no fragment; port, path and query are free. By hand, since `URL` repairs
 * what must be refused, such as an empty user (TS-02).
 * @throws {SpiffeError} `bundle_endpoint_malformed`
 */
export function parseBundleEndpointUrl (text: string): BundleEndpointUrl {
  if (text.length > maxUrlBytes) throw malformed('FED-15', `the URL is longer than ${maxUrlBytes} bytes`)
  // No user: it could be a secret, and would be shown.
  const shown = JSON.stringify(text.replace(/\/\/[^/?#]*@/, '//…@'))
  if (!/^https:\/\//i.test(text)) throw malformed('FED-15', `the scheme of ${shown} is not https`)
  if (/[^\x21-\x7e]|[\\"<>^`{|}]/.test(text)) throw malformed('FED-15', `${shown} has a character that no URL has`)
  const [, authority = ''] = /^https:\/\/([^/?#]*)/i.exec(text) ?? []
  if (authority.includes('@')) throw malformed('FED-15', `${shown} has a user`)
  if (authority === '' || authority.startsWith(':')) throw malformed('FED-15', `${shown} has no host`)
  if (text.includes('#')) throw malformed('FED-15', `${shown} has a fragment`)
  if (!URL.canParse(text) || authority.endsWith(':')) throw malformed('FED-15', `${shown} is no URL`)
  return text as BundleEndpointUrl
}

/** Whether who serves the bundle is itself of the domain whose bundle it is: the bundle vouches for its successor (FED-25). */
export function isSelfServing (profile: BundleEndpointProfile, trustDomain: TrustDomain): boolean {
  return profile.kind === 'https_spiffe' && trustDomainOf(profile.endpointId) === trustDomain
}

function readProfile (profile: string, endpointId: string | undefined): BundleEndpointProfile {
  const hasId = endpointId !== undefined && endpointId !== ''
  switch (profile) {
    case 'https_web':
      if (hasId) throw malformed('FED-13', 'https_web has no endpoint ID: the name of the host is what counts')
      return { kind: 'https_web' }
    case 'https_spiffe':
      if (!hasId) throw malformed('FED-24', 'https_spiffe needs the SPIFFE ID that the endpoint shows')
      return { kind: 'https_spiffe', endpointId: parseSpiffeId(endpointId) }
    default: throw malformed('FED-10', `profile ${JSON.stringify(profile.slice(0, 100))} is neither https_web nor https_spiffe`)
  }
}

function malformed (requirement: string, rule: string): SpiffeError {
  return new SpiffeError('bundle_endpoint_malformed', rule, { requirement })
}

import { z } from 'zod'
import { acmeKeys } from '../../acme/acme-keys.ts'
import { durationSeconds, parsedBy, port, text, wholeSeconds } from '../../runtime/config-schema.ts'
import { parseBundleEndpointUrl } from '../../spiffe/bundle-endpoint.ts'
import type { FederationRelationship } from '../../spiffe/federation-relationship.ts'
import { parseTrustDomain, type TrustDomain } from '../../spiffe/trust-domain.ts'
import { labelledBlocks } from '../labelled-blocks.ts'
import { bundleCopies, type BundleCopy } from './bundle-copies.ts'
import { empty, partnerProfile } from './partner-profile.ts'

/** How clients know the bundle endpoint: `acme` and `files` are of `https_web`. */
export type EndpointProfileConfig =
  | { readonly kind: 'https_spiffe' }
  | { readonly kind: 'https_web', readonly acme: AcmeConfig }
  | { readonly kind: 'https_web', readonly files: ServingCertConfig }

export interface AcmeConfig {
  readonly directoryUrl: string
  readonly domainName: string
  readonly email: string
}

export interface ServingCertConfig {
  readonly certFilePath: string
  readonly keyFilePath: string
  /** Between looks at the files. */
  readonly fileSyncIntervalMs: number
}

export interface BundleEndpointConfig {
  readonly address: string
  readonly port: number
  /** What the published bundle says; absent: the bundle's own. */
  readonly refreshHintSeconds: number | undefined
  readonly profile: EndpointProfileConfig
  /** Whether the configuration names it, which SPIRE asks for. */
  readonly profileNamed: boolean
}

/** The key `federation` of a server's configuration (spire-surface §6.2). */
export interface FederationConfig {
  readonly bundleEndpoint: BundleEndpointConfig | undefined
  /** PEM: whom `https_web` believes beside the web's and this machine's roots. */
  readonly webCaPath: string | undefined
  /** No partner is asked more often, whatever its hint says. */
  readonly leastRefreshMs: number
  /** In the order of the file, each trust domain once. */
  readonly partners: readonly FederationRelationship[]
  /** Of partners of the configuration and of stored ones, asked in this order while their endpoint fails. */
  readonly copies: ReadonlyMap<TrustDomain, readonly BundleCopy[]>
}

const acme = z.strictObject({
  ...acmeKeys,
  domain_name: z.string().regex(/^(?=.{1,253}$)[a-z0-9-]+(\.[a-z0-9-]+)*$/, 'must be a host name in lower case')
}).transform((value): AcmeConfig => ({ directoryUrl: value.directory_url, domainName: value.domain_name, email: value.email }))

const servingCertFile = z.strictObject({
  cert_file_path: text,
  key_file_path: text,
  file_sync_interval: durationSeconds(100).default(2)
}).transform((value): ServingCertConfig => ({
  certFilePath: value.cert_file_path, keyFilePath: value.key_file_path, fileSyncIntervalMs: value.file_sync_interval * 1_000
}))

const servedProfile = labelledBlocks({
  https_spiffe: empty,
  https_web: z.strictObject({ acme: block(acme).optional(), serving_cert_file: block(servingCertFile).optional() })
}).transform(({ https_spiffe: spiffe, https_web: web }, context): EndpointProfileConfig => {
  const refuse = (message: string, path: string[] = []) => context.issues.push({ code: 'custom', path, message, input: undefined })
  if ((spiffe === undefined) === (web === undefined)) refuse('must be one of https_spiffe and https_web')
  if (web === undefined) return { kind: 'https_spiffe' }
  if (web.acme !== undefined && web.serving_cert_file === undefined) return { kind: 'https_web', acme: web.acme }
  if (web.serving_cert_file !== undefined && web.acme === undefined) return { kind: 'https_web', files: web.serving_cert_file }
  refuse('must have one of acme and serving_cert_file', ['https_web'])
  return z.NEVER
})

const bundleEndpoint = z.strictObject({
  address: text.default('0.0.0.0'),
  port,
  refresh_hint: wholeSeconds.optional(),
  /** The older place of it. */
  acme: block(acme).optional(),
  profile: servedProfile.optional()
}).transform((value, context): BundleEndpointConfig => {
  const { address, port, refresh_hint: refreshHintSeconds, profile, acme } = value
  if (acme !== undefined && profile !== undefined) {
    context.issues.push({ code: 'custom', path: ['acme'], message: 'belongs into profile https_web', input: undefined })
  }
  const inOldPlace: EndpointProfileConfig = acme === undefined ? { kind: 'https_spiffe' } : { kind: 'https_web', acme }
  const profileNamed = profile !== undefined || acme !== undefined
  return { address, port, refreshHintSeconds, profile: profile ?? inOldPlace, profileNamed }
})

const partner = z.strictObject({ bundle_endpoint_url: parsedBy(parseBundleEndpointUrl), bundle_endpoint_profile: partnerProfile })

export const federationSchema = z.strictObject({
  bundle_endpoint: block(bundleEndpoint).optional(),
  web_ca_path: text.optional(),
  least_refresh_interval: durationSeconds(1_000).default(60),
  federates_with: labelledBlocks(partner, parseTrustDomain).prefault({}),
  copies: labelledBlocks(bundleCopies, parseTrustDomain).prefault({})
}).transform((value): FederationConfig => ({
  bundleEndpoint: value.bundle_endpoint,
  webCaPath: value.web_ca_path,
  leastRefreshMs: value.least_refresh_interval * 1_000,
  partners: Object.entries(value.federates_with).map(([domain, { bundle_endpoint_url: url, bundle_endpoint_profile: profile }]) =>
    ({ trustDomain: domain as TrustDomain, endpoint: { url, profile } })),
  copies: new Map(Object.entries(value.copies).map(([domain, copies]) => [domain as TrustDomain, copies]))
}))

/** What is allowed but likely unwanted, a sentence each. */
export function federationWarnings ({ bundleEndpoint }: FederationConfig): string[] {
  return bundleEndpoint?.profileNamed === false ? ['federation.bundle_endpoint names no profile: https_spiffe is meant'] : []
}

/** SPIRE's JSON form has a list of one map where YAML has a map. */
function block<Schema extends z.ZodType> (schema: Schema) {
  return z.preprocess(raw => Array.isArray(raw) && raw.length === 1 ? raw[0] : raw, schema)
}

import { encodeBundle } from '../../wire/bundle-codec.ts'
import type { FederationRelationshipInit } from '../../wire/generated/types.ts'
import { bundleFormatFlag } from '../bundle/bundle-format.ts'
import { waitFlags } from '../convergence/wait.ts'
import { optionalChoiceFlag, pathFlag, spiffeIdFlag, textFlag, trustDomainFlag, type FlagValues } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { readBundleText } from '../read-bundle.ts'
import { readInputText } from '../read-input.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import type { Terminal } from '../terminal.ts'

/** What a relationship is made of; of `federation create` and `federation update`. The names are SPIRE's. */
export const federationFlags = {
  trustDomain: trustDomainFlag('the trust domain whose bundle is fetched'),
  bundleEndpointURL: textFlag('where it is fetched, an https URL', { placeholder: 'URL' }),
  bundleEndpointProfile: optionalChoiceFlag('how the endpoint is known: by a web certificate, or by its SPIFFE ID', [
    'https_web', 'https_spiffe'
  ]),
  endpointSpiffeID: spiffeIdFlag('the endpoint\'s SPIFFE ID, of https_spiffe'),
  trustDomainBundlePath: pathFlag('the bundle to begin with, which https_spiffe needs where the endpoint is of the same trust domain', {
    placeholder: 'FILE|-'
  }),
  trustDomainBundleFormat: bundleFormatFlag,
  data: pathFlag('read relationships from JSON instead; - is standard input', { placeholder: 'FILE|-' }),
  ...waitFlags,
  ...replicaFlags,
  output: outputFlag
}

/** What a `-data` file holds. */
export const dataDetails = 'A -data file holds {"federationRelationships": [{"trustDomain", "bundleEndpointURL", "bundleEndpointProfile",' +
  '\n"endpointSPIFFEID", "trustDomainBundle", "trustDomainBundleFormat"}]}.'

export type FederationValues = FlagValues<typeof federationFlags>

/**
 * What the flags say of one relationship; what they do not say is absent.
 * @throws {SpiffeError} `usage_invalid`, `file_unusable`
 */
export async function relationshipOfFlags (flags: FederationValues, terminal: Terminal): Promise<FederationRelationshipInit> {
  const { trustDomain, bundleEndpointURL, bundleEndpointProfile: profile, endpointSpiffeID, trustDomainBundlePath: path } = flags
  if (trustDomain === undefined) throw usage('a trust domain is required: -trustDomain')
  if (profile === 'https_spiffe' && endpointSpiffeID === undefined) throw usage('https_spiffe needs the endpoint\'s ID: -endpointSpiffeID')
  if (profile !== 'https_spiffe' && endpointSpiffeID !== undefined) {
    throw usage('-endpointSpiffeID is of -bundleEndpointProfile https_spiffe alone')
  }
  const bundle = path === undefined ? undefined : readBundleText(await readInputText(path, terminal), {
    name: path === '-' ? 'standard input' : path, format: flags.trustDomainBundleFormat, trustDomain
  })
  return {
    trustDomain,
    bundleEndpointUrl: bundleEndpointURL,
    ...profile === 'https_web' ? { httpsWeb: {} } : {},
    ...profile === 'https_spiffe' ? { httpsSpiffe: { endpointSpiffeId: endpointSpiffeID } } : {},
    ...bundle === undefined ? {} : { trustDomainBundle: encodeBundle(bundle) }
  }
}

/** The relationships of a `-data` file, `undefined` without one. @throws {SpiffeError} `usage_invalid`, `file_unusable` */
export async function relationshipsOfData (flags: FederationValues, terminal: Terminal): Promise<FederationRelationshipInit[] | undefined> {
  if (flags.data === undefined) return undefined
  const described = [
    'trustDomain', 'bundleEndpointURL', 'bundleEndpointProfile', 'endpointSpiffeID', 'trustDomainBundlePath'
  ] as const
  const given = described.find(name => flags[name] !== undefined)
  if (given !== undefined) throw usage(`-${given} and -data exclude each other`)
  return await (await import('./federation-data.ts')).readFederationData(flags.data, terminal)
}

import { z } from 'zod'
import { formatProblems, readConfig } from '../../runtime/config-file.ts'
import { parsedBy } from '../../runtime/config-schema.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseSpiffeId, parseTrustDomainOrId } from '../../spiffe/spiffe-id.ts'
import { encodeBundle } from '../../wire/bundle-codec.ts'
import type { FederationRelationshipInit } from '../../wire/generated/types.ts'
import { readBundleText } from '../read-bundle.ts'
import { readInputText } from '../read-input.ts'
import type { Terminal } from '../terminal.ts'

/** SPIRE's form of the file, key by key (spire-surface §5.2). */
const schema = z.strictObject({
  federationRelationships: z.array(z.strictObject({
    trustDomain: parsedBy(parseTrustDomainOrId),
    bundleEndpointURL: z.string(),
    bundleEndpointProfile: z.enum(['https_web', 'https_spiffe']),
    endpointSPIFFEID: parsedBy(parseSpiffeId).optional(),
    /** PEM as a string, a SPIFFE document as a string or as it is. */
    trustDomainBundle: z.union([z.string(), z.record(z.string(), z.unknown())]).optional(),
    trustDomainBundleFormat: z.enum(['pem', 'spiffe']).default('pem')
  }).check(({ value, issues }) => {
    const refuse = (key: string, message: string) => issues.push({ code: 'custom', path: [key], message, input: undefined })
    const spiffe = value.bundleEndpointProfile === 'https_spiffe'
    if (spiffe && value.endpointSPIFFEID === undefined) refuse('endpointSPIFFEID', 'is required: https_spiffe knows the endpoint by it')
    if (!spiffe && value.endpointSPIFFEID !== undefined) refuse('endpointSPIFFEID', 'is of https_spiffe alone')
    if (typeof value.trustDomainBundle === 'object' && value.trustDomainBundleFormat === 'pem') {
      refuse('trustDomainBundle', 'must be a string that holds PEM; or set trustDomainBundleFormat to spiffe')
    }
  })).min(1, 'is empty')
})

/** Reads a `-data` file. @throws {SpiffeError} `file_unusable`, naming file, line and key */
export async function readFederationData (path: string, terminal: Terminal): Promise<FederationRelationshipInit[]> {
  const name = path === '-' ? 'standard input' : path
  const reading = readConfig(schema, { file: { name, text: await readInputText(path, terminal) }, maxLength: 64 * 1_048_576 })
  if (reading.value === undefined) {
    throw new SpiffeError('file_unusable', formatProblems(reading.problems), { details: { problems: reading.problems } })
  }
  return reading.value.federationRelationships.map(one => {
    const { trustDomain, trustDomainBundle: bundle, trustDomainBundleFormat: format } = one
    const text = typeof bundle === 'object' ? JSON.stringify(bundle) : bundle
    const of = `trustDomainBundle of ${trustDomain} in ${name}`
    return {
      trustDomain,
      bundleEndpointUrl: one.bundleEndpointURL,
      ...one.bundleEndpointProfile === 'https_web' ? { httpsWeb: {} } : { httpsSpiffe: { endpointSpiffeId: one.endpointSPIFFEID } },
      ...text === undefined ? {} : { trustDomainBundle: encodeBundle(readBundleText(text, { name: of, format, trustDomain })) }
    }
  })
}

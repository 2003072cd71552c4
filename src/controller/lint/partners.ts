import { isSelfServing, parseBundleEndpoint } from '../../spiffe/bundle-endpoint.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Finding } from './finding.ts'
import { findingAt, type Manifest } from './manifest.ts'
import { recordOf, textOf } from './raw-fields.ts'

/** What is found in one ClusterFederatedTrustDomain. */
export function partner (manifest: Manifest): readonly Finding[] {
  const spec = recordOf(manifest.body['spec'])
  const profile = recordOf(spec['bundleEndpointProfile'])
  const bundle = textOf(spec['trustDomainBundle']).trim()
  if (bundle !== '' && !(bundle.startsWith('{') && bundle.includes('"keys"'))) {
    const message = 'trustDomainBundle is no SPIFFE bundle, a JSON object with keys'
    return [findingAt(manifest, ['spec', 'trustDomainBundle'], 'value-malformed', message)]
  }
  try {
    const endpoint = parseBundleEndpoint({
      trustDomain: bareTrustDomain(spec['trustDomain']),
      url: textOf(spec['bundleEndpointURL']),
      profile: textOf(profile['type']),
      endpointId: textOf(profile['endpointSPIFFEID'])
    })
    if (bundle !== '' || !isSelfServing(endpoint.profile, endpoint.trustDomain)) return []
    const message = 'is fetched by https_spiffe from the partner itself, whose first bundle nobody has: the first fetch cannot succeed'
    return [findingAt(manifest, ['spec', 'bundleEndpointProfile'], 'first-bundle-missing', message)]
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    return [findingAt(manifest, ['spec'], 'value-malformed', error.message)]
  }
}

/** Both spellings are understood: the name alone, and `spiffe://<name>`. */
export function bareTrustDomain (value: unknown): string { return textOf(value).replace(/^spiffe:\/\//, '') }

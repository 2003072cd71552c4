import type { Finding } from './finding.ts'
import { findingAt, type Manifest } from './manifest.ts'
import { listOf, recordOf, type Raw } from './raw-fields.ts'

const labelSelector = ['matchLabels', 'matchExpressions']
const expression = ['key', 'operator', 'values']

/** The specs of `spire.spiffe.io/v1alpha1` (spire-surface §8.2). */
export const specs: Readonly<Record<string, readonly string[]>> = {
  ClusterSPIFFEID: [
    'spiffeIDTemplate', 'ttl', 'jwtTtl', 'dnsNameTemplates', 'workloadSelectorTemplates', 'federatesWith', 'namespaceSelector',
    'podSelector', 'admin', 'downstream', 'autoPopulateDNSNames', 'hint', 'fallback', 'className'
  ],
  ClusterStaticEntry: [
    'spiffeID', 'parentID', 'selectors', 'federatesWith', 'x509SVIDTTL', 'jwtSVIDTTL', 'dnsNames', 'hint', 'admin', 'downstream',
    'storeSVID', 'className'
  ],
  ClusterFederatedTrustDomain: ['trustDomain', 'bundleEndpointURL', 'bundleEndpointProfile', 'trustDomainBundle', 'className']
}

/** Fields that the API server would drop: a selector with a wrong name becomes one that selects everything. */
export function unknownFields (manifest: Manifest): readonly Finding[] {
  const spec = recordOf(manifest.body['spec'])
  const profile = ['spec', 'bundleEndpointProfile']
  return [
    ...beyond(manifest, ['spec'], spec, specs[manifest.kind] ?? []),
    ...manifest.kind === 'ClusterFederatedTrustDomain'
      ? beyond(manifest, profile, recordOf(spec['bundleEndpointProfile']), ['type', 'endpointSPIFFEID']) : [],
    ...manifest.kind === 'ClusterSPIFFEID'
      ? ['namespaceSelector', 'podSelector'].flatMap(name => ofSelector(manifest, ['spec', name], recordOf(spec[name]))) : []
  ]
}

function ofSelector (manifest: Manifest, path: readonly string[], selector: Raw): readonly Finding[] {
  return [
    ...beyond(manifest, path, selector, labelSelector),
    ...listOf(selector['matchExpressions'])
      .flatMap((one, index) => beyond(manifest, [...path, 'matchExpressions', index], recordOf(one), expression))
  ]
}

function beyond (manifest: Manifest, path: readonly PropertyKey[], value: Raw, known: readonly string[]): readonly Finding[] {
  return Object.keys(value).filter(key => !known.includes(key))
    .map(key => findingAt(manifest, [...path, key], 'unknown-field', `${[...path, key].join('.')} does not exist`))
}

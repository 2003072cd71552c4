import type { Finding } from './finding.ts'
import { findingAt, type Manifest } from './manifest.ts'
import { bareTrustDomain } from './partners.ts'
import { listOf, recordOf } from './raw-fields.ts'
import type { ServerConfigMap } from './server-config-maps.ts'

/** Whether what is said of partners by entries, relationships and servers fits together. */
export function federationPlan (manifests: readonly Manifest[], configs: readonly ServerConfigMap[]): readonly Finding[] {
  const partners = manifests.filter(({ kind }) => kind === 'ClusterFederatedTrustDomain')
  const declared = new Set([
    ...partners.map(({ body }) => bareTrustDomain(recordOf(body['spec'])['trustDomain'])), ...configs.flatMap(config => config.partners)
  ])
  const users = manifests.filter(({ kind }) => kind === 'ClusterSPIFFEID' || kind === 'ClusterStaticEntry')
  const used = users.flatMap(manifest => listOf(recordOf(manifest.body['spec'])['federatesWith'])
    .map((value, index) => ({ manifest, index, domain: bareTrustDomain(value) })))
  const isNamed = new Set(used.map(({ domain }) => domain))
  return [
    ...used.filter(({ domain }) => !declared.has(domain)).map(({ manifest, index, domain }) => findingAt(
      manifest, ['spec', 'federatesWith', index], 'no-federation-plan',
      `federates with ${domain}, and nothing says where its bundle comes from`
    )),
    // Without entries in what is looked at, they are elsewhere.
    ...users.length === 0 ? [] : partners.filter(({ body }) => !isNamed.has(bareTrustDomain(recordOf(body['spec'])['trustDomain'])))
      .map(manifest =>
        findingAt(manifest, ['spec', 'trustDomain'], 'federation-unused', 'is in federatesWith of nobody: no workload gets its bundle')),
    ...partners.length === 0 ? [] : configs.filter(({ hasBundleEndpoint }) => !hasBundleEndpoint).map(({ manifest }) =>
      findingAt(manifest, ['data'], 'no-bundle-endpoint', 'serves no bundle, and there are partners who have to fetch it'))
  ]
}

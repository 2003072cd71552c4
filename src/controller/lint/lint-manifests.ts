import { worstFirst } from '../../spiffe/lint-finding.ts'
import { deployment } from './deployment.ts'
import { duplicates } from './duplicates.ts'
import { federationPlan } from './federation-plan.ts'
import type { Finding } from './finding.ts'
import { identity } from './identities.ts'
import { unknownFields } from './known-fields.ts'
import type { Manifest } from './manifest.ts'
import { partner } from './partners.ts'
import { selectorsWellFormed } from './selectors-well-formed.ts'
import { serverConfigMap } from './server-config-maps.ts'
import { staticEntry } from './static-entries.ts'

export interface LintOptions {
  /** The controller's; without it nothing is said of resources for another one. */
  readonly trustDomain?: string | undefined
}

/**
 * Looks for custom resources that give identities to more pods than meant, or to none, and for servers and agents run in a way that cannot
 * be right. What is not found may still be so: of what is not in the manifests nothing is known.
 * @param manifests all that belongs together, of any kind; what has nothing to do with identities is passed over
 * @returns the worst first, else in the order of the manifests
 */
export function lintManifests (manifests: readonly Manifest[], { trustDomain }: LintOptions = {}): readonly Finding[] {
  const resources = manifests.filter(({ apiVersion }) => apiVersion.startsWith('spire.spiffe.io/'))
  const configs = manifests.map(serverConfigMap).filter(config => config !== undefined)
  return worstFirst([
    ...resources.flatMap(manifest => ofOne(manifest, trustDomain)),
    ...duplicates(resources),
    ...federationPlan(resources, configs),
    ...deployment(manifests, configs)
  ])
}

function ofOne (manifest: Manifest, trustDomain: string | undefined): readonly Finding[] {
  switch (manifest.kind) {
    case 'ClusterSPIFFEID': return [...unknownFields(manifest), ...selectorsWellFormed(manifest), ...identity(manifest, trustDomain)]
    case 'ClusterStaticEntry': return [...unknownFields(manifest), ...staticEntry(manifest, trustDomain)]
    case 'ClusterFederatedTrustDomain': return [...unknownFields(manifest), ...partner(manifest)]
    default: return []
  }
}

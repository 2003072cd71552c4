import { allBundlesSecret, certificateSecret } from '../../sds/identity-secrets.ts'
import type { Found, ResourceView } from '../../sds/secret-resource.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { X509Svid } from '../../spiffe/svid.ts'
import type { LocalIdentity } from '../workloads/local-identity.ts'
import { allBundles, identityOfPeers } from '../resources/names.ts'

const nothing: ReadonlySet<string> = new Set()

export interface MeshSecrets {
  /**
   * Of the workloads that live here now: a name of anybody else's means nothing, and is answered so.
   * @param serving trust domains whose members serve something
   */
  view (own: Bundle, identities: ReadonlyMap<string, LocalIdentity>, serving: ReadonlySet<TrustDomain>): ResourceView
}

const ofConnections = 'conn/'

/** Each SVID and each set of bundles is checked and encoded once. */
export function openMeshSecrets (connections: { find (name: string): Found } | undefined): MeshSecrets {
  const certificates = new WeakMap<X509Svid, Found>()
  let bundles = new Map<string, { readonly of: readonly Bundle[], readonly found: Found }>()

  return {
    view (own, identities, serving) {
      const before = bundles
      bundles = new Map()
      const bundlesUnder = (name: string, federated: Iterable<Bundle>): Found => {
        const of = [own, ...[...new Set(federated)].toSorted((a, b) => a.trustDomain < b.trustDomain ? -1 : 1)]
        const known = bundles.get(name) ?? before.get(name)
        const same = known?.of.length === of.length && known.of.every((bundle, i) => bundle === of[i])
        const found = same ? known.found : allBundlesSecret(name, own, of.slice(1))
        bundles.set(name, { of, found })
        return found
      }
      const lookUp = (name: string): Found => {
        if (name.startsWith(ofConnections)) return connections?.find(name) ?? { kind: 'absent' }
        const local = identities.get(name)
        if (local !== undefined) {
          const found = certificates.get(local.svid) ?? certificateSecret(name, local.svid)
          certificates.set(local.svid, found)
          return found
        }
        if (name === allBundles) {
          // Who serves nothing is not believed as a server: Envoy takes a name of ours from a certificate of theirs that has two.
          const federated = [...identities.values()].flatMap(one => [...one.federatedBundles.values()])
          return bundlesUnder(name, federated.filter(({ trustDomain }) => serving.has(trustDomain)))
        }
        const peers = identities.get(identityOfPeers(name) ?? '')
        return peers === undefined ? { kind: 'absent' } : bundlesUnder(name, peers.federatedBundles.values())
      }
      return {
        allNames: nothing,
        find (name, at) {
          const found = lookUp(name)
          if (found.kind !== 'usable' || found.resource.expiresAt === undefined || found.resource.expiresAt > at) return found
          return { kind: 'unusable', name, reason: `the certificate expired at ${found.resource.expiresAt.toISOString()}` }
        }
      }
    }
  }
}

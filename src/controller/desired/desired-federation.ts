import type { FederationRelationship } from '../../spiffe/federation-relationship.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { ClusterFederatedTrustDomain, ClusterFederatedTrustDomainSpec } from '../resources/cluster-federated-trust-domain.ts'
import { byPreference } from '../resources/resource.ts'

export interface DeclaredFederation extends ClusterFederatedTrustDomainSpec {
  readonly by: ClusterFederatedTrustDomain
}

export interface DesiredFederation {
  readonly declared: ReadonlyMap<TrustDomain, DeclaredFederation>
  /** By the UID of a resource that does not count, the name of the one for the same trust domain that does. */
  readonly masked: ReadonlyMap<string, string>
}

/** One relationship for each trust domain: the oldest resource counts (spire-surface §8.2). */
export function desireFederation (resources: readonly ClusterFederatedTrustDomain[]): DesiredFederation {
  const declared = new Map<TrustDomain, DeclaredFederation>()
  const masked = new Map<string, string>()
  for (const by of resources.toSorted(byPreference)) {
    if ('error' in by.spec) continue
    const { trustDomain } = by.spec.value.relationship
    const first = declared.get(trustDomain)
    if (first === undefined) declared.set(trustDomain, { ...by.spec.value, by })
    else masked.set(by.uid, first.by.name)
  }
  return { declared, masked }
}

export interface FederationChanges {
  readonly create: readonly DeclaredFederation[]
  /** The bundle is left as it is: the endpoint's may be newer than the resource's. */
  readonly update: readonly DeclaredFederation[]
  readonly remove: readonly TrustDomain[]
  /** Declared, and on the server by somebody else, in another form: left alone. */
  readonly foreign: ReadonlySet<TrustDomain>
}

/**
 * Compares what is declared with what the server has. Relationships have no place for an owner's name: whose they are is written down
 * elsewhere.
 * @param owned trust domains whose relationships this controller made
 */
export function diffFederation (
  declared: ReadonlyMap<TrustDomain, DeclaredFederation>, stored: ReadonlyMap<TrustDomain, FederationRelationship>,
  owned: ReadonlySet<TrustDomain>
): FederationChanges {
  const create: DeclaredFederation[] = []
  const update: DeclaredFederation[] = []
  const foreign = new Set<TrustDomain>()
  for (const [trustDomain, wanted] of declared) {
    const there = stored.get(trustDomain)
    if (there === undefined) create.push(wanted)
    else if (isSame(there, wanted.relationship)) continue
    else if (owned.has(trustDomain)) update.push(wanted)
    else foreign.add(trustDomain)
  }
  const remove = [...owned].filter(trustDomain => stored.has(trustDomain) && !declared.has(trustDomain))
  return { create, update, remove, foreign }
}

function isSame ({ endpoint: a }: FederationRelationship, { endpoint: b }: FederationRelationship): boolean {
  if (a.url !== b.url || a.profile.kind !== b.profile.kind) return false
  return a.profile.kind !== 'https_spiffe' || b.profile.kind !== 'https_spiffe' || a.profile.endpointId === b.profile.endpointId
}

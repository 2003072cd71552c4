import { parseTrustDomain, type TrustDomain } from '../../spiffe/trust-domain.ts'
import { desireFederation, diffFederation, type FederationChanges } from '../desired/desired-federation.ts'
import type { Tenure } from '../kubernetes/lease.ts'
import type { ClusterFederatedTrustDomain } from '../resources/cluster-federated-trust-domain.ts'
import type { ServerFederation } from '../server/server-federation.ts'

export interface FederationState {
  /** By the UID of a resource that does not count, the name of the one that does. */
  readonly masked: ReadonlyMap<string, string>
  readonly foreign: ReadonlySet<TrustDomain>
  /** What the server said. */
  readonly failures: ReadonlyMap<TrustDomain, string>
}

interface FederationPlan extends FederationChanges {
  readonly masked: ReadonlyMap<string, string>
  readonly owned: ReadonlySet<TrustDomain>
}

/** What would be done, without doing it. @param note what leaders have written down */
export async function planFederation (
  resources: readonly ClusterFederatedTrustDomain[], server: Pick<ServerFederation, 'list'>, note: string, signal: AbortSignal
): Promise<FederationPlan> {
  const { declared, masked } = desireFederation(resources)
  const owned = readOwned(note)
  return { ...diffFederation(declared, await server.list(signal), owned), masked, owned }
}

/**
 * Makes the server's relationships what the resources say, as far as they are this controller's. Whose they are stands in the leaders'
 * note: it is written before one is made, so that none is made that nobody knows of.
 * @throws {RpcError} @throws {SpiffeError} `lease_lost`, `kubernetes_unreachable`
 */
export async function reconcileFederation (
  resources: readonly ClusterFederatedTrustDomain[], server: ServerFederation, tenure: Tenure, signal: AbortSignal
): Promise<FederationState> {
  const { create, update, remove, foreign, masked, owned } = await planFederation(resources, server, tenure.note(), signal)
  const failures = new Map<TrustDomain, string>()
  const attempt = async (trustDomains: readonly TrustDomain[], call: () => Promise<Array<string | undefined>>) => {
    if (trustDomains.length === 0) return
    tenure.check()
    for (const [index, refusal] of (await call()).entries()) {
      const trustDomain = trustDomains[index]
      if (refusal !== undefined && trustDomain !== undefined) failures.set(trustDomain, refusal)
    }
  }
  const created = create.map(({ relationship }) => relationship.trustDomain)
  const left = new Set([...owned, ...created])
  if (left.size > owned.size) await tenure.setNote(writeOwned(left))
  await attempt(created, () => server.create(create, signal))
  await attempt(update.map(({ relationship }) => relationship.trustDomain), () => server.update(update, signal))
  await attempt(remove, () => server.remove(remove, signal))
  // One that was refused may be somebody else's by now.
  for (const trustDomain of created) if (failures.has(trustDomain) && !owned.has(trustDomain)) left.delete(trustDomain)
  for (const trustDomain of remove) if (!failures.has(trustDomain)) left.delete(trustDomain)
  if (writeOwned(left) !== tenure.note()) await tenure.setNote(writeOwned(left))
  return { masked, foreign, failures }
}

/** A note that nobody can read says that nothing is owned, so that nothing is removed. */
function readOwned (note: string): ReadonlySet<TrustDomain> {
  try {
    const { federation } = JSON.parse(note) as { federation?: unknown }
    return new Set(Array.isArray(federation) ? federation.map(name => parseTrustDomain(String(name))) : [])
  } catch {
    return new Set()
  }
}

function writeOwned (trustDomains: ReadonlySet<TrustDomain>): string {
  return trustDomains.size === 0 ? '' : JSON.stringify({ federation: [...trustDomains].toSorted() })
}

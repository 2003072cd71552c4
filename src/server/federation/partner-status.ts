import { trustEnds } from '../../federation/client/trust-ends.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { FederationRelationship } from '../../spiffe/federation-relationship.ts'
import type { StoredPartnerState } from '../../storage/partner-state-store.ts'
import { decodeFacts, type PartnerFacts } from './partner-facts.ts'

/**
 * `broken`: nothing of the domain is accepted, whatever SVID it shows. `failing`: its endpoint has given nothing for `failuresForLong`
 * polls in a row. `unfollowed`: a poll is overdue, so nobody follows it. `pending`: nothing has been fetched yet, and it has not failed
 * for long.
 */
export type PartnerHealth = 'pending' | 'healthy' | 'failing' | 'unfollowed' | 'broken'

export interface PartnerStatus {
  readonly relationship: FederationRelationship
  readonly health: PartnerHealth
  readonly bundle: Bundle | undefined
  readonly trustEndsAt: Date | undefined
  readonly following: { readonly replicaId: string, readonly facts: PartnerFacts } | undefined
}

/** Some quarter of an hour at the usual pace; one that ends sooner needs nobody. */
export const failuresForLong = 5
/** A replica that is lost is replaced within seconds, and a poll takes at most 30 s for each source. */
export const overdueMs = 120_000

export function partnerStatus (
  relationship: FederationRelationship, bundle: Bundle | undefined, stored: StoredPartnerState | undefined, now: Date
): PartnerStatus {
  const following = stored && { replicaId: stored.replicaId, facts: decodeFacts(stored.facts) }
  const trustEndsAt = bundle && trustEnds(bundle)
  return { relationship, bundle, trustEndsAt, following, health: healthOf({ bundle, trustEndsAt, facts: following?.facts }, now) }
}

function healthOf (
  { bundle, trustEndsAt, facts }: { bundle: Bundle | undefined, trustEndsAt: Date | undefined, facts: PartnerFacts | undefined }, now: Date
): PartnerHealth {
  if (bundle !== undefined && !verifiesAnything(bundle, trustEndsAt, now)) return 'broken'
  if (facts !== undefined && facts.failures >= failuresForLong) return bundle === undefined ? 'broken' : 'failing'
  if (facts?.nextPollAt !== undefined && now.getTime() - facts.nextPollAt.getTime() > overdueMs) return 'unfollowed'
  return bundle === undefined || facts?.lastSuccessAt === undefined ? 'pending' : 'healthy'
}

/** JWT keys of others tell no end: they count only where X.509 authorities never were. */
function verifiesAnything ({ x509Authorities, jwtAuthorities }: Bundle, trustEndsAt: Date | undefined, now: Date): boolean {
  return trustEndsAt === undefined ? x509Authorities.length === 0 && jwtAuthorities.length > 0 : trustEndsAt > now
}

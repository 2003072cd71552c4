import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** How following a partner's bundle fares, as the replica that follows it says. */
export interface StoredPartnerState {
  readonly trustDomain: TrustDomain
  readonly replicaId: string
  readonly seenAt: Date
  /** JSON, read by whoever wrote it. */
  readonly facts: Readonly<Record<string, unknown>>
}

/**
 * What replicas that do not follow tell operators. Of one life of a database: in no backup and in no log of changes, since nothing is
 * decided by it.
 */
export interface PartnerStateStore {
  /** Adds or replaces, all at once. */
  put (states: readonly StoredPartnerState[]): Promise<void>
  /** Forgets all other domains. */
  keep (trustDomains: readonly TrustDomain[]): Promise<void>
  /** In the order of their names. */
  list (): Promise<readonly StoredPartnerState[]>
}

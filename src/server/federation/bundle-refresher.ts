import type { FederationRelationship } from '../../spiffe/federation-relationship.ts'

/** Fetches bundles of partners. */
export interface BundleRefresher {
  /**
   * Fetches the bundle now and stores it; on return whoever asks finds it.
   * @throws {SpiffeError} why it could not be fetched, or is not believed
   */
  refresh (relationship: FederationRelationship, signal: AbortSignal): Promise<void>
}

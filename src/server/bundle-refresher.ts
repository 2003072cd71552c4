import { SpiffeError } from '../spiffe/errors.ts'
import type { FederationRelationship } from '../spiffe/federation-relationship.ts'

/** Fetches bundles of partners. */
export interface BundleRefresher {
  /**
   * Fetches the bundle now and stores it; on return whoever asks finds it.
   * @throws {SpiffeError} why it could not be fetched, or is not believed
   */
  refresh (relationship: FederationRelationship, signal: AbortSignal): Promise<void>
}

/** Of a server that fetches none. */
export const noBundleRefresher: BundleRefresher = {
  async refresh ({ trustDomain }) {
    throw new SpiffeError('bundle_refresh_missing', `no bundle refresher runs here: the bundle of "${trustDomain}" was not fetched`)
  }
}

import type { Bundle } from '../../spiffe/bundle.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'

/** Where fetched bundles go, and with them what validators use. */
export interface BundleSink {
  /** What is in force. */
  stored (trustDomain: TrustDomain): Promise<Bundle | undefined>
  /**
   * Reads and writes in one transaction. A sink whose relationship with this domain has ended meanwhile must refuse, or what was deleted
   * with it would come back (FED-31).
   * @param decide called with what is stored; what it returns replaces that, `undefined` leaves it. What it throws is thrown on, and
   *   nothing is written
   * @returns what is in force afterwards
   */
  update (trustDomain: TrustDomain, decide: (stored: Bundle | undefined) => Bundle | undefined): Promise<Bundle | undefined>
}

import type { Took } from '../../runtime/took.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'

/** What following partners tells those who count. */
export interface PartnerEvents {
  /** One poll, of all sources that it needed. */
  readonly polled: (trustDomain: TrustDomain, took: Took) => void
  /** It brought another bundle. */
  readonly updated: (trustDomain: TrustDomain) => void
}

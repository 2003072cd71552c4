import type { Bundle } from '../../spiffe/bundle.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { X509Svid } from '../../spiffe/svid.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'

/** An identity that a workload of this node has now. */
export interface LocalIdentity {
  readonly id: SpiffeId
  readonly svid: X509Svid
  readonly federatedBundles: ReadonlyMap<TrustDomain, Bundle>
}

import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { SharedKeyRows } from '../key-manager.ts'

/** What key managers need whose keys are kept elsewhere. */
export interface RemoteKeysHost {
  readonly sharedKeys: SharedKeyRows
  readonly trustDomain: TrustDomain
  readonly clock: Clock
  readonly log: Logger
}

import type { BoundService } from '../rpc/bound-service.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** What a server or an agent offers to programs that are its plugins. */
export interface PluginHost {
  readonly trustDomain: TrustDomain
  readonly clock: Clock
  readonly log: Logger
  /** SPIRE's host services; none unless given. */
  readonly hostServices?: readonly BoundService[]
}

import type { BoundService } from '../rpc/bound-service.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** Calls the listener each time, until the signal aborts. */
export type Reconfigured = (listener: () => void, signal: AbortSignal) => void

/** What a server or an agent offers to programs that are its plugins. */
export interface PluginHost {
  readonly trustDomain: TrustDomain
  readonly clock: Clock
  readonly log: Logger
  /** When programs are to be given what their `plugin_data_file` says by now. */
  readonly onReconfigure?: Reconfigured | undefined
  /** SPIRE's host services; none unless given. */
  readonly hostServices?: readonly BoundService[]
}

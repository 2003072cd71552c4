import type { UpstreamAuthority } from '../ca/upstream-authority.ts'
import type { Plugin } from '../plugins/plugin.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** What a server offers to the plugin that has its CA signed. */
export interface UpstreamHost {
  readonly trustDomain: TrustDomain
  readonly clock: Clock
  readonly log: Logger
}

export type UpstreamPlugin<Config> = Plugin<UpstreamAuthority, Config, UpstreamHost>

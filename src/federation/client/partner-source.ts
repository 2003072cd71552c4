import type { Bundle } from '../../spiffe/bundle.ts'
import type { OfferedBy } from './judge-update.ts'

/** Where a partner's bundle may be had. */
export interface PartnerSource {
  /** For people: a URL without its query, or a path. */
  readonly name: string
  readonly offeredBy: OfferedBy
  /**
   * @throws {SpiffeError} why it cannot be had; the signal's reason when it aborts
   */
  fetch (signal: AbortSignal): Promise<Offer>
}

export interface Offer {
  readonly bundle: Bundle
  /** Of keys that cannot be used: for the log. Empty when that was said before. */
  readonly notes: readonly string[]
}

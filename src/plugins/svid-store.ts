import type { X509Svid } from '../spiffe/svid.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** What a store is given: an SVID, whom to trust with it, and where it goes. */
export interface StorableSvid {
  /** Values of the entry's selectors, in the entry's order: where it goes, in the store's own words. */
  readonly metadata: readonly string[]
  /** Its key is secret. */
  readonly svid: X509Svid
  /** DER certificates of the own trust domain's bundle. */
  readonly bundle: readonly Uint8Array[]
  /** The same of each trust domain that the entry federates with, and of which a bundle is known. */
  readonly federatedBundles: ReadonlyMap<TrustDomain, readonly Uint8Array[]>
}

/**
 * SPIRE's plugin type `SVIDStore`: keeps SVIDs where programs are that no agent runs beside. It is given those of entries with `storeSvid`
 * whose selectors have its name as their type.
 */
export interface SvidStore extends AsyncDisposable {
  /** The type of the selectors of its entries. */
  readonly name: string
  /** Idempotent; also after each change of the SVID or of a bundle. @throws {SpiffeError} what stands in the way: it is asked again */
  putX509Svid (stored: StorableSvid, signal: AbortSignal): Promise<void>
  /**
   * Idempotent. @param metadata of what was put
   * @throws {SpiffeError} `argument_invalid`: there can be nothing to delete; anything else: it is asked again
   */
  deleteX509Svid (metadata: readonly string[], signal: AbortSignal): Promise<void>
}

import type { Bundle } from '../spiffe/bundle.ts'
import type { Entry } from '../spiffe/entry.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { PageRequest } from './page.ts'

/** What happens to entries that federate with the domain: `restrict` refuses, `delete` removes them, `dissociate` removes the link. */
export type BundleDeleteMode = 'restrict' | 'delete' | 'dissociate'

export interface BundlePage {
  readonly bundles: readonly Bundle[]
  /** Empty only when the page is empty or everything was asked for. */
  readonly nextPageToken: string
}

export interface BundleRemoval {
  readonly bundle: Bundle
  /** As they are now, revision + 1: the change must reach the agents. */
  readonly updatedEntries: readonly Entry[]
  readonly deletedEntries: readonly Entry[]
}

/** Bundles by trust domain, the own one among them. */
export interface BundleStore {
  get (trustDomain: TrustDomain): Promise<Bundle | undefined>
  /** @throws {SpiffeError} `page_token_malformed` */
  list (page: PageRequest, keep?: (trustDomain: TrustDomain) => boolean): Promise<BundlePage>
  count (keep?: (trustDomain: TrustDomain) => boolean): Promise<number>
  /** @throws {SpiffeError} `bundle_exists` */
  create (bundle: Bundle): Promise<Bundle>
  /** Creates or replaces. */
  set (bundle: Bundle): Promise<Bundle>
  /**
   * Reads, changes and writes with no other change in between. What `change` throws is thrown, and nothing is written.
   * @param change pure: it may run again when another writer came first
   */
  update (trustDomain: TrustDomain, change: (current: Bundle | undefined) => Bundle): Promise<Bundle>
  /** @throws {SpiffeError} `bundle_not_found`, `bundle_in_use` (mode `restrict`) */
  delete (trustDomain: TrustDomain, mode: BundleDeleteMode): Promise<BundleRemoval>
}

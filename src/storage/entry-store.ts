import type { Entry, EntryDraft } from '../spiffe/entry.ts'
import type { SpiffeError } from '../spiffe/errors.ts'
import type { Selector } from '../spiffe/selector.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { PageRequest } from './page.ts'
import type { SetMatch } from './set-match.ts'

/** `similar`: an entry with this SPIFFE ID, parent and selector set is there already, and this is it. */
export type CreateOutcome =
  | { readonly kind: 'created', readonly entry: Entry }
  | { readonly kind: 'similar', readonly entry: Entry }
  | { readonly kind: 'refused', readonly error: SpiffeError }

export interface EntryUpdate {
  readonly id: string
  /** Fields left out keep their value. */
  readonly change: Partial<Omit<EntryDraft, 'id'>>
}

/** All given conditions must hold (spire-surface §1.5). */
export interface EntryFilter {
  readonly spiffeId?: SpiffeId | undefined
  readonly parentId?: SpiffeId | undefined
  readonly selectors?: SetMatch<Selector> | undefined
  readonly federatesWith?: SetMatch<TrustDomain> | undefined
  /** Empty filters nothing. */
  readonly hint?: string | undefined
  /** `false` filters nothing. */
  readonly downstream?: boolean | undefined
  /** Asked about each entry that fulfils the rest: costs a look at all of them. */
  readonly keep?: ((entry: Entry) => boolean) | undefined
}

/**
 * May refuse the change of one entry by what it was and will be, read in the transaction that changes it. Pure: asked again when a
 * transaction begins again.
 * @param after `undefined`: it will be gone
 */
export type EntryGuard = (before: Entry, after: Entry | undefined) => SpiffeError | undefined

export interface EntryPage {
  readonly entries: readonly Entry[]
  /** Empty only when the page is empty or everything was asked for. */
  readonly nextPageToken: string
}

/** Registration entries. A batch is one transaction; outcomes are in the order of the request. Times come from the store's clock. */
export interface EntryStore {
  /**
   * An empty id becomes a UUIDv4. Revision 0. Refusals: `entry_exists` (the id is taken by an entry that is not similar),
   * `federated_bundle_unknown`, `entry_malformed`. Drafts see those before them in the batch.
   */
  createMany (drafts: readonly EntryDraft[]): Promise<readonly CreateOutcome[]>
  /**
   * Revision + 1 each. Refusals: `entry_not_found`, `entry_exists` (it would be similar to another), `federated_bundle_unknown`,
   * `entry_malformed`, and the guard's.
   */
  updateMany (updates: readonly EntryUpdate[], guard?: EntryGuard): Promise<ReadonlyArray<Entry | SpiffeError>>
  /** Gives what was removed, or `entry_not_found`, or the guard's refusal. */
  deleteMany (ids: readonly string[], guard?: EntryGuard): Promise<ReadonlyArray<Entry | SpiffeError>>
  get (id: string): Promise<Entry | undefined>
  /** In creation order; unknown ids are left out. */
  getMany (ids: readonly string[]): Promise<readonly Entry[]>
  /** @throws {SpiffeError} `page_token_malformed`, `argument_invalid` (an empty set in the filter) */
  list (filter: EntryFilter, page: PageRequest): Promise<EntryPage>
  /** @throws {SpiffeError} `argument_invalid` (an empty set in the filter) */
  count (filter: EntryFilter): Promise<number>
  /** Every entry in creation order, read in chunks; what is written meanwhile may or may not be seen. */
  all (): AsyncIterable<Entry>
  /** Removes, and returns, entries whose `expiresAtSeconds` is not 0 and not after `now`. */
  deleteExpired (now: Date): Promise<readonly Entry[]>
}

import type { Bundle } from '../spiffe/bundle.ts'
import { sameBundle } from '../spiffe/bundle-change.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { Watchable } from '../runtime/watchable.ts'

/** What the own bundle needs of storage: a read-modify-write that loses no concurrent change. */
export interface BundleJournal {
  get (trustDomain: TrustDomain): Promise<Bundle | undefined>
  update (trustDomain: TrustDomain, change: (current: Bundle | undefined) => Bundle): Promise<Bundle>
}

/** The trust domain's own bundle: stored first, then shown to watchers. */
export class OwnBundle {
  readonly #trustDomain: TrustDomain
  readonly #journal: BundleJournal
  readonly #state: Watchable<Bundle>

  private constructor (trustDomain: TrustDomain, journal: BundleJournal, initial: Bundle) {
    this.#trustDomain = trustDomain
    this.#journal = journal
    this.#state = new Watchable(initial)
  }

  /** Reads the stored bundle; an empty one when this trust domain is new. */
  static async open (trustDomain: TrustDomain, journal: BundleJournal): Promise<OwnBundle> {
    const stored = await journal.get(trustDomain)
    return new OwnBundle(trustDomain, journal, stored ?? emptyBundle(trustDomain))
  }

  get value (): Bundle { return this.#state.value }

  watch (signal: AbortSignal): AsyncIterable<Bundle> { return this.#state.watch(signal) }

  /** Applies a pure change in one transaction; the sequence number grows only when the content changed (TDB-06). */
  async update (change: (current: Bundle) => Bundle): Promise<Bundle> {
    const stored = await this.#journal.update(this.#trustDomain, current => change(current ?? emptyBundle(this.#trustDomain)))
    this.show(stored)
    return stored
  }

  /** Shows what is stored. Answers of the store may come out of order; the newest bundle stays. */
  show (stored: Bundle): void {
    if ((stored.sequenceNumber ?? 0n) > (this.#state.value.sequenceNumber ?? 0n)) this.#state.set(stored)
  }

  /** Shows what is stored, though it be older than what was shown: the database was restored. */
  reset (stored: Bundle): void {
    if (!sameBundle(stored, this.#state.value)) this.#state.set(stored)
  }
}

export function emptyBundle (trustDomain: TrustDomain): Bundle {
  return { trustDomain, x509Authorities: [], jwtAuthorities: [], sequenceNumber: 0n }
}

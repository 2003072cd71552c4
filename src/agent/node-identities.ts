import type { Bundle } from '../spiffe/bundle.ts'
import type { Entry } from '../spiffe/entry.ts'
import type { CertificateDigest } from '../spiffe/revocation.ts'
import type { Selector } from '../spiffe/selector.ts'
import type { WorkloadIdentity, X509Svid } from '../spiffe/svid.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Clock } from '../runtime/clock.ts'
import { isStop } from '../runtime/tasks.ts'
import { Watchable } from '../runtime/watchable.ts'
import { EntryIndex } from './entry-index.ts'
import type { SvidCache, SvidSigner } from './svid-cache.ts'
import { taintedKeyIds } from './tainted-roots.ts'
import { entriesIn, type NodeState, type Scope, viewKey, WorkloadView } from './workload-view.ts'

/** Every bundle this node knows. Never merged. */
export interface NodeBundles {
  readonly bundle: Bundle
  /** Of all trust domains that any entry of this node federates with. */
  readonly federatedBundles: ReadonlyMap<TrustDomain, Bundle>
}

/** Timers are not trusted for longer: the clock may jump. */
const longestNapMs = 5000
/** Nor for shorter: an SVID kept but no longer wanted is due without anybody renewing it. */
const shortestNapMs = 100

/**
 * The one place that knows which SVIDs exist on this node. Workload API and SDS are encodings of its `watch`.
 */
export class NodeIdentities {
  readonly #svids: SvidCache
  readonly #clock: Clock
  readonly #stores: ReadonlySet<string>
  readonly #views = new Map<string, WorkloadView>()
  #entries = new EntryIndex([])
  #bundle: Bundle
  #federatedBundles: ReadonlyMap<TrustDomain, Bundle> = new Map()
  #revision = 0
  #synced = false
  #released = false
  readonly #settled = new Watchable(0)
  readonly #bundles: Watchable<NodeBundles>
  #wake: () => void = () => {}
  #tellEntries: ((before: EntryIndex, after: EntryIndex) => void) | undefined

  /** @param stores names of stores that SVIDs go to */
  constructor (bundle: Bundle, svids: SvidCache, clock: Clock, stores: ReadonlySet<string> = new Set()) {
    this.#bundle = bundle
    this.#bundles = new Watchable<NodeBundles>({ bundle, federatedBundles: this.#federatedBundles })
    svids.setTainted(taintedKeyIds(bundle))
    this.#svids = svids
    this.#clock = clock
    this.#stores = stores
  }

  get entries (): EntryIndex { return this.#entries }
  get bundle (): Bundle { return this.#bundle }
  get federatedBundles (): ReadonlyMap<TrustDomain, Bundle> { return this.#federatedBundles }
  /** Whether the entries are known yet. */
  get synced (): boolean { return this.#synced }
  get views (): number { return this.#views.size }
  /** How many X509-SVIDs are ready. */
  get svids (): number { return this.#svids.size }
  /** Grows with each change of entries, bundles or SVIDs. */
  get revision (): number { return this.#revision }
  /** Entries that are wanted and whose SVIDs could not be had. */
  get unservedEntryIds (): readonly string[] { return this.#svids.failedEntryIds }

  /** Entries whose SVIDs go to a store, each with its SVID where there is one: those of stores that this node has are kept fresh. */
  get storable (): readonly { readonly entry: Entry, readonly svid: X509Svid | undefined }[] {
    return this.#entries.storable.map(entry => ({ entry, svid: this.#svids.svidOf(entry) }))
  }

  isRevoked (svid: X509Svid): boolean { return this.#svids.isRevoked(svid) }

  /** Revisions whose SVIDs have all been signed, or refused: the newest first, then each newer one. */
  watchSettled (signal: AbortSignal): AsyncGenerator<number, void, undefined> { return this.#settled.watch(signal) }

  /** Looks again whether all is served, and says so to those who watch. */
  touch (): void { this.#wake() }

  /** The node's entries, whole. Views appear only once these are known: an empty agent must not say "no identity". */
  setEntries (entries: EntryIndex): void {
    this.#tellEntries?.(this.#entries, entries)
    this.#entries = entries
    this.#synced = true
    this.#svids.retain(entries)
    this.#refresh()
  }

  /** `listener` is told each time entries are set. */
  onEntries (listener: (before: EntryIndex, after: EntryIndex) => void): void { this.#tellEntries = listener }

  /** Takes these certificates from whoever has them, at once; new ones are signed where the identity stays. */
  dropRevoked (digests: ReadonlySet<CertificateDigest>): void {
    if (this.#svids.setRevoked(digests) > 0) this.#refresh()
  }

  /** Ends all watches, without an error, and each later one after its first state: whoever watches begins again, elsewhere. */
  release (): void {
    this.#released = true
    for (const view of this.#views.values()) view.end()
    this.#bundles.set(this.#bundles.value)
  }

  /** No workload of this node is anybody any more. */
  withdraw (): void { this.setEntries(new EntryIndex([])) }

  /** What is known is of no use any more: new callers are told to come back later, and streams see their identities go. */
  forget (): void {
    this.withdraw()
    this.#synced = false
  }

  /** Own and federated bundles, whole. Keep the object of a bundle that did not change. */
  setBundles (bundle: Bundle, federatedBundles: ReadonlyMap<TrustDomain, Bundle>): void {
    if (bundle === this.#bundle && federatedBundles === this.#federatedBundles) return
    this.#bundle = bundle
    this.#federatedBundles = federatedBundles
    this.#svids.setTainted(taintedKeyIds(bundle))
    this.#bundles.set({ bundle, federatedBundles })
    this.#refresh()
  }

  /** Whole states of what a workload with these selectors may see; the current one first, as soon as all of it is there. */
  async * watch (
    selectors: readonly Selector[], signal: AbortSignal, scope: Scope = 'all'
  ): AsyncGenerator<WorkloadIdentity, void, undefined> {
    const key = viewKey(selectors, scope)
    const view = this.#views.get(key) ?? new WorkloadView(selectors, scope)
    this.#views.set(key, view)
    if (this.#released) view.end()
    view.watchers++
    try {
      if (view.watchers === 1 && this.#synced) {
        view.refresh(this.#state(), this.#revision)
        this.#wake()
      }
      yield * view.watch(signal)
    } finally {
      view.watchers--
      if (view.watchers === 0) this.#views.delete(key)
    }
  }

  /** Own and federated bundles, now and after each change of either. */
  async * watchBundles (signal: AbortSignal): AsyncGenerator<NodeBundles, void, undefined> {
    let told: NodeBundles | undefined
    for await (const bundles of this.#bundles.watch(signal)) {
      if (bundles !== told) yield bundles
      told = bundles
      if (this.#released) return
    }
  }

  /** Entries a workload with these selectors is entitled to, now. */
  entriesFor (selectors: readonly Selector[], scope: Scope = 'all'): readonly Entry[] {
    return entriesIn(scope, this.#entries.matching(new WorkloadView(selectors).present))
  }

  /** Keeps SVIDs present and fresh until the signal aborts. */
  async run (signer: SvidSigner, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const woken = this.#whenWoken()
      const stored = this.#entries.storable.filter(({ selectors }) => this.#stores.has(selectors[0]?.type ?? ''))
      const watched = new Set([...[...this.#views.values()].flatMap(view => view.wanted), ...stored])
      const revision = this.#revision
      const due = this.#svids.due(watched, this.#entries)
      if (due.length > 0) await this.#svids.sign(due, signer, signal, () => this.#refresh())
      this.#settled.set(revision)
      await this.#nap(woken, signal)
      this.#refresh()
    }
  }

  async #nap (woken: Promise<void>, signal: AbortSignal): Promise<void> {
    const ms = Math.min(longestNapMs, Math.max(shortestNapMs, this.#svids.nextDueMs() - this.#clock.now().getTime()))
    const rest = new AbortController()
    const sleep = this.#clock.sleep(ms, AbortSignal.any([signal, rest.signal])).catch((error: unknown) => {
      if (!rest.signal.aborted && !isStop(error, signal)) throw error
    })
    await Promise.race([woken, sleep])
    rest.abort()
  }

  #whenWoken (): Promise<void> {
    return new Promise(resolve => { this.#wake = resolve })
  }

  #refresh (): void {
    this.#revision++
    if (!this.#synced) return
    const state = this.#state()
    for (const view of this.#views.values()) view.refresh(state, this.#revision)
    this.#wake()
  }

  #state (): NodeState {
    return {
      entries: this.#entries,
      bundle: this.#bundle,
      federatedBundles: this.#federatedBundles,
      now: this.#clock.now(),
      svidOf: entry => this.#svids.svidOf(entry),
      isRevoked: svid => this.#svids.isRevoked(svid)
    }
  }
}

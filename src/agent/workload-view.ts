import type { Bundle } from '../spiffe/bundle.ts'
import type { Entry } from '../spiffe/entry.ts'
import { formatSelector, type Selector } from '../spiffe/selector.ts'
import type { WorkloadIdentity, X509Svid } from '../spiffe/svid.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { Watchable } from '../runtime/watchable.ts'
import type { EntryIndex } from './entry-index.ts'

/** `delegable`: without what makes its holder powerful at the server, which nobody gets for somebody else. */
export type Scope = 'all' | 'delegable'

/** What a view is made from: the node's present state. */
export interface NodeState {
  readonly entries: EntryIndex
  readonly bundle: Bundle
  readonly federatedBundles: ReadonlyMap<TrustDomain, Bundle>
  readonly now: Date
  /** The valid SVID for this very revision of an entry, if there is one. */
  svidOf (entry: Entry): X509Svid | undefined
  isRevoked (svid: X509Svid): boolean
}

/**
 * What workloads with one set of selectors see. Many streams share one view, so a change is computed and encoded once for all of them.
 */
export class WorkloadView {
  readonly key: string
  readonly #present: ReadonlySet<string>
  readonly #scope: Scope
  readonly #shown: Watchable<WorkloadIdentity | undefined> = new Watchable<WorkloadIdentity | undefined>(undefined)
  #wanted: readonly Entry[] = []
  /** By the entry's id. */
  #held: ReadonlyMap<string, X509Svid> = new Map()
  /** Of entries that are wanted and have been shown. */
  #shownIds: ReadonlySet<string> = new Set()
  watchers = 0
  #ended = false

  constructor (selectors: readonly Selector[], scope: Scope = 'all') {
    this.#present = new Set(selectors.map(formatSelector))
    this.#scope = scope
    this.key = viewKey(selectors, scope)
  }

  /** The entries this view needs SVIDs for. */
  get wanted (): readonly Entry[] { return this.#wanted }
  get present (): ReadonlySet<string> { return this.#present }

  /**
   * Recomputes from the node's state and shows the result if it differs. The first state waits until all of its SVIDs are there. After that
   * nothing waits for somebody else's signature: an entry without its SVID is shown with the one it had before, while that is good, and a
   * new one is not shown yet.
   */
  refresh (state: NodeState, revision: number): void {
    this.#wanted = entriesIn(this.#scope, state.entries.matching(this.#present))
    const held = new Map<string, X509Svid>()
    for (const entry of this.#wanted) {
      const svid = state.svidOf(entry) ?? this.#heldBefore(entry, state)
      if (svid !== undefined) held.set(entry.id, svid)
    }
    const last = this.#shown.value
    if (last === undefined && held.size < this.#wanted.length) return
    this.#held = held
    // Partners of a new entry come with its SVID; those of one whose SVID has expired stay.
    const shown = this.#wanted.filter(({ id }) => held.has(id) || this.#shownIds.has(id))
    this.#shownIds = new Set(shown.map(({ id }) => id))
    const svids = [...held.values()]
    const federatedBundles = federatedOf(shown, state.federatedBundles)
    const awaitsSvids = svids.length === 0 && this.#wanted.length > 0
    const next = { svids, bundle: state.bundle, federatedBundles, awaitsSvids, revision }
    if (last === undefined || !sameContent(last, next)) this.#shown.set(next)
  }

  #heldBefore ({ id, spiffeId }: Entry, state: NodeState): X509Svid | undefined {
    const svid = this.#held.get(id)
    return svid?.id === spiffeId && svid.notAfter > state.now && !state.isRevoked(svid) ? svid : undefined
  }

  /** Nothing more is shown: watches end, without an error, once they have seen one state. */
  end (): void {
    this.#ended = true
    this.#shown.set(this.#shown.value)
  }

  /** Whole states, the current one first; waits for the first. */
  async * watch (signal: AbortSignal): AsyncGenerator<WorkloadIdentity, void, undefined> {
    let told = false
    for await (const identity of this.#shown.watch(signal)) {
      if (identity === undefined) continue
      if (!told || !this.#ended) yield identity
      told = true
      if (this.#ended) return
    }
  }
}

/** Equal for equal sets of selectors, whatever their order, seen in the same scope. */
export function viewKey (selectors: readonly Selector[], scope: Scope = 'all'): string {
  return JSON.stringify([scope, ...[...new Set(selectors.map(formatSelector))].toSorted()])
}

/** A server knows administrators by their ID: an ID that one entry makes powerful is so by every entry. */
export function entriesIn (scope: Scope, entries: readonly Entry[]): readonly Entry[] {
  if (scope === 'all') return entries
  const powerful = new Set(entries.flatMap(({ admin, downstream, spiffeId }) => admin || downstream ? [spiffeId] : []))
  return powerful.size === 0 ? entries : entries.filter(({ spiffeId }) => !powerful.has(spiffeId))
}

function federatedOf (entries: readonly Entry[], bundles: ReadonlyMap<TrustDomain, Bundle>): Map<TrustDomain, Bundle> {
  const found = new Map<TrustDomain, Bundle>()
  for (const trustDomain of new Set(entries.flatMap(entry => entry.federatesWith))) {
    const bundle = bundles.get(trustDomain)
    if (bundle !== undefined) found.set(trustDomain, bundle)
  }
  return found
}

function sameContent (a: WorkloadIdentity, b: WorkloadIdentity): boolean {
  return a.bundle === b.bundle && a.awaitsSvids === b.awaitsSvids &&
    sameItems(a.svids, b.svids) && sameMaps(a.federatedBundles, b.federatedBundles)
}

function sameItems<T> (a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index])
}

function sameMaps<K, V> (a: ReadonlyMap<K, V>, b: ReadonlyMap<K, V>): boolean {
  return a.size === b.size && [...a].every(([key, value]) => b.get(key) === value)
}

import type { Entry } from '../spiffe/entry.ts'
import { formatSelector, isSubset } from '../spiffe/selector.ts'

/**
 * The agent's entries, found by what a workload is: an entry applies when its selectors are among the workload's. Entries whose SVIDs go
 * to a secret store are known here and served to nobody (spire-surface §3.1).
 */
export class EntryIndex {
  readonly #byId: ReadonlyMap<string, Entry>
  /** By the first selector: a matching entry's first selector is among the workload's, so no other entry needs a look. */
  readonly #bySelector = new Map<string, Entry[]>()
  /** Entries whose SVIDs go to a store. */
  readonly storable: readonly Entry[]

  constructor (entries: Iterable<Entry>) {
    const byId = new Map<string, Entry>()
    for (const entry of entries) {
      byId.set(entry.id, entry)
      const first = entry.selectors[0]
      if (first === undefined || entry.storeSvid) continue
      const key = formatSelector(first)
      const group = this.#bySelector.get(key)
      if (group === undefined) this.#bySelector.set(key, [entry])
      else group.push(entry)
    }
    this.#byId = byId
    this.storable = [...byId.values()].filter(({ storeSvid }) => storeSvid)
  }

  get size (): number { return this.#byId.size }
  get (id: string): Entry | undefined { return this.#byId.get(id) }
  values (): Iterable<Entry> { return this.#byId.values() }

  /**
   * Entries for a workload in the order of their ids, which operators may choose (WLAPI-35); of several with the same hint only the oldest
   * (WLAPI-36, spire-surface §1.11).
   * @param present the workload's selectors as `formatSelector` keys
   */
  matching (present: ReadonlySet<string>): Entry[] {
    const found: Entry[] = []
    for (const key of present) {
      for (const entry of this.#bySelector.get(key) ?? []) if (isSubset(entry.selectors, present)) found.push(entry)
    }
    const hints = new Set<string>()
    return found.toSorted(byAge).filter(({ hint }) => {
      if (hint === '') return true
      const first = !hints.has(hint)
      hints.add(hint)
      return first
    }).toSorted((a, b) => a.id < b.id ? -1 : 1)
  }
}

function byAge (a: Entry, b: Entry): number {
  return a.createdAtSeconds - b.createdAtSeconds || (a.id < b.id ? -1 : 1)
}

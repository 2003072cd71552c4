import type { Entry } from '../spiffe/entry.ts'
import type { PolicyVersion } from '../spiffe/policy-version.ts'
import { selectorListKey, type SelectedIds } from '../spiffe/selected-ids.ts'
import { formatSelector } from '../spiffe/selector.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'

/** What agents are told of policies: another object after each change. */
export interface PolicyState {
  /** `undefined`: none is. */
  readonly active: PolicyVersion | undefined
  /** A list's set is the same object until somebody joins or leaves it. */
  readonly selected: SelectedIds
}

/** The IDs of entries that have certain selectors. */
interface SelectorList {
  readonly key: string
  readonly selectors: readonly string[]
  /** Entries with the selectors, by their ID. */
  readonly counts: Map<SpiffeId, number>
  changed: boolean
}

/**
 * The active policies, and who is meant by the selectors in them. The cost of a change of entries follows the entries that change: only
 * a list that is new is looked for among all.
 */
export class PolicyIndex {
  readonly #lists = new Map<string, SelectorList>()
  /** Under one selector of theirs each: an entry without it is in none of them. */
  readonly #byFirst = new Map<string, SelectorList[]>()
  #state: PolicyState = { active: undefined, selected: new Map() }
  #changed = false

  get state (): PolicyState { return this.#state }

  /** @param before an entry as it was until now; this must be asked before it is replaced */
  takeEntries (entries: ReadonlyMap<string, Entry | undefined>, before: (id: string) => Entry | undefined): void {
    if (this.#lists.size === 0) return
    for (const [id, entry] of entries) {
      const earlier = before(id)
      const [left, joined] = [listsOf(earlier, this.#byFirst), listsOf(entry, this.#byFirst)]
      const stays = earlier?.spiffeId === entry?.spiffeId
      if (earlier !== undefined) for (const list of left) if (!stays || !joined.has(list)) add(list, earlier.spiffeId, -1)
      if (entry !== undefined) for (const list of joined) if (!stays || !left.has(list)) add(list, entry.spiffeId, 1)
    }
  }

  /** @param entries all, as they are now */
  takeActive (active: PolicyVersion | undefined, entries: () => Iterable<Entry>): void {
    if (isSame(this.#state.active, active)) return
    const wanted = new Map((active?.selectors ?? []).map(selectors => [selectorListKey(selectors), selectors]))
    for (const key of this.#lists.keys()) if (!wanted.has(key)) this.#lists.delete(key)
    const fresh = [...wanted].flatMap(([key, selectors]) => this.#lists.has(key) ? [] : [
      { key, selectors, counts: new Map<SpiffeId, number>(), changed: true }
    ])
    for (const list of fresh) this.#lists.set(list.key, list)
    if (fresh.length > 0) {
      const byFirst = groupByFirst(fresh)
      for (const entry of entries()) for (const list of listsOf(entry, byFirst)) add(list, entry.spiffeId, 1)
    }
    this.#byFirst.clear()
    for (const [first, lists] of groupByFirst(this.#lists.values())) this.#byFirst.set(first, lists)
    this.#state = { active, selected: this.#state.selected }
    this.#changed = true
  }

  /** Shows what was taken. @returns whether agents must be told */
  show (): boolean {
    let changed = this.#changed
    const selected = new Map([...this.#lists.values()].map(list => {
      const before = this.#state.selected.get(list.key)
      const same = before !== undefined && (!list.changed || hasAll(before, list.counts))
      list.changed = false
      changed ||= !same
      return [list.key, same ? before : new Set(list.counts.keys())]
    }))
    if (!changed) return false
    this.#changed = false
    this.#state = { active: this.#state.active, selected }
    return true
  }
}

function add (list: SelectorList, id: SpiffeId, by: 1 | -1): void {
  const count = (list.counts.get(id) ?? 0) + by
  if (count > 0) list.counts.set(id, count)
  else list.counts.delete(id)
  if (count === (by === 1 ? 1 : 0)) list.changed = true
}

function groupByFirst (lists: Iterable<SelectorList>): Map<string, SelectorList[]> {
  const groups = new Map<string, SelectorList[]>()
  for (const list of lists) {
    const first = list.selectors[0] as string
    groups.set(first, [...groups.get(first) ?? [], list])
  }
  return groups
}

const none: ReadonlySet<SelectorList> = new Set()

function listsOf (entry: Entry | undefined, byFirst: ReadonlyMap<string, readonly SelectorList[]>): ReadonlySet<SelectorList> {
  if (entry === undefined) return none
  const selectors = new Set(entry.selectors.map(formatSelector))
  const found = [...selectors].flatMap(selector =>
    byFirst.get(selector)?.filter(list => list.selectors.every(wanted => selectors.has(wanted))) ?? [])
  return found.length === 0 ? none : new Set(found)
}

function hasAll (ids: ReadonlySet<SpiffeId>, counts: ReadonlyMap<SpiffeId, number>): boolean {
  return ids.size === counts.size && [...ids].every(id => counts.has(id))
}

/** A database that was set back gives the same number to another set. */
function isSame (a: PolicyVersion | undefined, b: PolicyVersion | undefined): boolean {
  return a?.number === b?.number && a?.revision === b?.revision && a?.appliedAt.getTime() === b?.appliedAt.getTime()
}

import type { Entry } from '../spiffe/entry.ts'

const none: readonly Entry[] = []

/** Entries by a key they share. A key with a single entry, the usual case among a million, costs no map of its own. */
export class EntryGroups<Key> {
  readonly #groups = new Map<Key, Entry | Map<string, Entry>>()

  has (key: Key): boolean { return this.#groups.has(key) }

  of (key: Key): Iterable<Entry> {
    const group = this.#groups.get(key)
    if (group === undefined) return none
    return group instanceof Map ? group.values() : [group]
  }

  add (key: Key, entry: Entry): void {
    const group = this.#groups.get(key)
    if (group === undefined || (!(group instanceof Map) && group.id === entry.id)) this.#groups.set(key, entry)
    else if (group instanceof Map) group.set(entry.id, entry)
    else this.#groups.set(key, new Map([[group.id, group], [entry.id, entry]]))
  }

  remove (key: Key, id: string): void {
    const group = this.#groups.get(key)
    if (group === undefined) return
    if (!(group instanceof Map)) {
      if (group.id === id) this.#groups.delete(key)
      return
    }
    group.delete(id)
    if (group.size === 0) this.#groups.delete(key)
  }
}

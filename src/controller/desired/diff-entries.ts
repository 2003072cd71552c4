import type { Entry } from '../../spiffe/entry.ts'
import type { Declaration } from './declare-pod.ts'
import type { DesiredEntry } from './desired-entry.ts'

export type ManagedField =
  'x509SvidTtlSeconds' | 'jwtSvidTtlSeconds' | 'federatesWith' | 'dnsNames' | 'admin' | 'downstream' | 'storeSvid' | 'hint'

/** An entry that is on the server; what nobody here manages is left out. */
export type StoredEntry = Pick<Entry, 'id' | 'spiffeId' | 'parentId' | 'selectors' | ManagedField>

export interface EntryCreation { readonly entry: DesiredEntry, readonly key: string }

export interface EntryUpdate extends EntryCreation {
  readonly before: StoredEntry
  readonly fields: readonly ManagedField[]
}

/** What to do so that the server has what is declared. */
export interface EntryChanges {
  /** With their IDs. */
  readonly create: readonly EntryCreation[]
  readonly update: readonly EntryUpdate[]
  readonly remove: ReadonlyArray<{ readonly entry: StoredEntry, readonly key: string }>
  /** Declared, and on the server by somebody else: left alone. By key, the foreign entry's ID. */
  readonly foreign: ReadonlyMap<string, string>
}

export interface ServerSide {
  /** This controller's own with this key. */
  readonly own: (key: string) => readonly StoredEntry[]
  /** The ID of the entry with this key that somebody else made. */
  readonly foreign: (key: string) => string | undefined
}

/**
 * Compares what is declared with what the server has, for these keys. Only entries with the own prefix are ever changed or removed.
 * @param prefix of the IDs of what is created
 */
export function diffEntries (
  keys: Iterable<string>, declared: (key: string) => readonly Declaration[], { own, foreign }: ServerSide, prefix: string
): EntryChanges {
  const changes = {
    create: [] as EntryCreation[],
    update: [] as EntryUpdate[],
    remove: [] as { entry: StoredEntry, key: string }[],
    foreign: new Map<string, string>()
  }
  for (const key of keys) {
    const [wanted] = declared(key)
    const [first, ...others] = own(key)
    for (const entry of wanted === undefined && first !== undefined ? [first, ...others] : others) changes.remove.push({ entry, key })
    if (wanted === undefined) continue
    if (first !== undefined) {
      const fields = outdated(first, wanted.entry)
      if (fields.length > 0) changes.update.push({ entry: { ...wanted.entry, id: first.id }, key, before: first, fields })
      continue
    }
    const other = foreign(key)
    if (other === undefined) changes.create.push({ entry: { ...wanted.entry, id: prefix + key }, key })
    else changes.foreign.set(key, other)
  }
  return changes
}

/** Fields that differ; the order of names says nothing (spire-surface §8.2). */
function outdated (stored: StoredEntry, wanted: DesiredEntry): ManagedField[] {
  const plain = (['x509SvidTtlSeconds', 'jwtSvidTtlSeconds', 'admin', 'downstream', 'storeSvid', 'hint'] as const)
    .filter(name => stored[name] !== wanted[name])
  const lists = (['federatesWith', 'dnsNames'] as const).filter(name => !sameMembers(stored[name], wanted[name]))
  return [...plain, ...lists]
}

function sameMembers (a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.toSorted().join('\0') === b.toSorted().join('\0')
}

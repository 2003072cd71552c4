import type { Entry, EntryInit } from '../wire/generated/types.ts'
import { spiffeIdText } from '../wire/spiffe-id-codec.ts'

export interface EntryDiff {
  /** With the IDs they have where they come from. */
  readonly create: readonly EntryInit[]
  readonly update: readonly EntryInit[]
  /** IDs of copies whose original is gone. */
  readonly remove: readonly string[]
  readonly same: number
  /** In the way: not copies, and not what is to be copied. Left as they are. */
  readonly conflicts: readonly EntryConflict[]
}

export interface EntryConflict { readonly entry: Entry, readonly with: Entry, readonly why: string }

/**
 * What makes the entries at `to` those at `from`.
 * @param copied IDs that this takeover copied, or was about to: nothing else at `to` is changed or removed
 */
export function diffEntries (from: readonly Entry[], to: readonly Entry[], copied: ReadonlySet<string>): EntryDiff {
  const there = new Map(to.map(entry => [entry.id, entry]))
  const byKey = new Map(to.map(entry => [keyOf(entry), entry]))
  const wanted = new Set(from.map(({ id }) => id))
  const create: EntryInit[] = []
  const update: EntryInit[] = []
  const conflicts: EntryConflict[] = []
  let same = 0
  for (const entry of from) {
    const found = there.get(entry.id)
    const similar = byKey.get(keyOf(entry))
    if (found !== undefined && contentOf(found) === contentOf(entry)) same++
    else if (found !== undefined && !copied.has(entry.id)) conflicts.push({ entry, with: found, why: 'another entry has its ID' })
    // SPIRE allows one entry of a SPIFFE ID, parent and selectors; one that is to be removed or changed makes room first.
    else if (similar !== undefined && similar.id !== entry.id && !(copied.has(similar.id) && !wanted.has(similar.id))) {
      conflicts.push({ entry, with: similar, why: 'another entry has its SPIFFE ID, parent and selectors' })
    } else if (found === undefined) create.push(encode(entry))
    else update.push(encode(entry))
  }
  const remove = to.filter(({ id }) => copied.has(id) && !wanted.has(id)).map(({ id }) => id)
  return { create, update, remove, same, conflicts }
}

/** What an entry says, whoever keeps it: revision and time of creation are the keeper's. Order means nothing in its lists. */
export function contentOf (entry: Entry): string {
  const { x509SvidTtl, jwtSvidTtl, admin, downstream, storeSvid, hint, expiresAt, federatesWith, dnsNames, additionalAttributes } = entry
  return JSON.stringify([
    keyOf(entry), x509SvidTtl, jwtSvidTtl, admin, downstream, storeSvid, hint, `${expiresAt}`,
    federatesWith.map(bareName).toSorted(), dnsNames,
    additionalAttributes?.disableX509SvidPrefetch ?? false, additionalAttributes?.jwtSvidIncludeJti ?? false
  ])
}

function keyOf ({ spiffeId, parentId, selectors }: Entry): string {
  return JSON.stringify([spiffeIdText(spiffeId), spiffeIdText(parentId), selectors.map(({ type, value }) => `${type}:${value}`).toSorted()])
}

function encode (entry: Entry): EntryInit {
  const { revisionNumber: _revision, createdAt: _created, ...content } = entry
  return content
}

function bareName (name: string): string { return name.replace(/^spiffe:\/\//, '') }

import { createHash } from 'node:crypto'
import type { Entry } from '../../spiffe/entry.ts'
import { formatSelector } from '../../spiffe/selector.ts'

/** What makes an entry the one it is: SPIFFE ID, parent and selectors; no two with the same are on a server (spire-surface §3.2). */
export type EntryIdentity = Pick<Entry, 'spiffeId' | 'parentId' | 'selectors'>

/** 32 hexadecimal digits, the same for the same identity. @param selectors sorted, no repeats */
export function entryKeyOf ({ spiffeId, parentId, selectors }: EntryIdentity): string {
  // No text in an entry has a U+0000.
  const text = [spiffeId, parentId, ...selectors.map(formatSelector)].join('\0')
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}

/** A key of ours, or the UUID that spire-controller-manager puts there. */
const rest = /^(?:[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/

/**
 * Whether the controller with this prefix made the entry. What follows the prefix has one form, so that a prefix that begins like another
 * one (`a.` and `a.b.`) claims nothing of it.
 */
export function isOwnId (id: string, prefix: string): boolean {
  return id.startsWith(prefix) && rest.test(id.slice(prefix.length))
}

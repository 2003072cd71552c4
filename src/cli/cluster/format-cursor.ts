import type { Cursor } from '../../wire/generated/agent-sync.ts'

/** How many changes a reader is behind; `undefined` where that cannot be said: it knows nothing yet, or another epoch's log. */
export function behindOf (head: Cursor | undefined, cursor: Cursor | undefined): bigint | undefined {
  if (head === undefined || cursor === undefined || cursor.epoch !== head.epoch) return undefined
  return cursor.number >= head.number ? 0n : head.number - cursor.number
}

export function formatBehind (behind: bigint | undefined): string { return behind === undefined ? '?' : `${behind}` }

export function formatRevision (cursor: Cursor | undefined): string { return cursor === undefined ? '-' : `${cursor.number}` }

/** @param ms Unix milliseconds; 0: never */
export function dateOf (ms: bigint): Date | undefined { return ms === 0n ? undefined : new Date(Number(ms)) }

/** The first part of a UUID is enough for people. */
export function shortId (id: string): string { return /^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(id) ? id.slice(0, 8) : id }

import type { Cursor } from '../change-log.ts'
import type { ChangeKey } from './change-set.ts'

export type LogHead = Cursor & { /** The newest number that is forgotten. */ readonly compacted: number }
export interface LogRow { readonly number: number, readonly keys: readonly ChangeKey[] }

/** Whether the log does not go on from a place: another epoch, forgotten, or not come to yet because the database was set back. */
export function isLost (after: Cursor, head: LogHead): boolean {
  return after.epoch !== head.epoch || after.number < head.compacted || after.number > head.number
}

export interface LogPart {
  readonly cursor: Cursor
  readonly keys: readonly ChangeKey[]
  readonly more: boolean
}

/**
 * What rows that follow a place say.
 * @param rows in order, from the snapshot that `head` is of
 * @returns `undefined` when one of them says: everything
 */
export function partOf (rows: readonly LogRow[], after: Cursor, head: LogHead): LogPart | undefined {
  const keys = rows.flatMap(row => row.keys)
  if (keys.some(([kind]) => kind === 'everything')) return undefined
  const last = rows.at(-1)?.number ?? after.number
  return { cursor: { epoch: head.epoch, number: last }, keys, more: last < head.number }
}

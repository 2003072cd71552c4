import type { Cursor as CursorMessage, CursorInit } from './generated/agent-sync.ts'

/** A place in the log of changes. */
export interface LogPlace { readonly epoch: string, readonly number: number }

export function encodeCursor ({ epoch, number }: LogPlace): CursorInit { return { epoch, number } }

/** A UUID, on PostgreSQL followed by what names cluster, table and timeline. */
const epochPattern = /^[\x21-\x7e]{1,255}$/

/** `undefined` for none, and for one that no server gave: agents say what they like, and it must fit the columns of every database. */
export function decodeCursor (message: CursorMessage | undefined): LogPlace | undefined {
  if (message === undefined || !epochPattern.test(message.epoch) || message.number > BigInt(Number.MAX_SAFE_INTEGER)) return undefined
  return { epoch: message.epoch, number: Number(message.number) }
}

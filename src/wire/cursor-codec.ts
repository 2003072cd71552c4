import type { Cursor as CursorMessage, CursorInit } from './generated/agent-sync.ts'

/** A place in the log of changes. */
export interface LogPlace { readonly epoch: string, readonly number: number }

export function encodeCursor ({ epoch, number }: LogPlace): CursorInit { return { epoch, number } }

/** `undefined` for none, and for one that no server gave. */
export function decodeCursor (message: CursorMessage | undefined): LogPlace | undefined {
  if (message === undefined || message.epoch === '') return undefined
  return { epoch: message.epoch, number: Number(message.number) }
}

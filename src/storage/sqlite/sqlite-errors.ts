import { SpiffeError } from '../../spiffe/errors.ts'

/** Primary result codes of SQLite, <https://sqlite.org/rescode.html>. */
export const sqliteBusy = 5
const corrupt = new Set([11, 26])
/** busy, locked, out of memory, read-only, I/O error, full, cannot open, protocol, authorization */
const unavailable = new Set([sqliteBusy, 6, 7, 8, 10, 13, 14, 15, 23])

/** The primary result code of an error of `node:sqlite`, or `undefined` for anything else. */
export function sqliteCode (error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return undefined
  return error.errcode & 0xff
}

/** Whether the database says that these rows cannot be: they break a key or a type. */
export function isSqliteViolation (error: unknown): boolean {
  return sqliteCode(error) === 19
}

/** @param file named in the message */
export function translateSqliteError (error: unknown, file: string): unknown {
  const code = sqliteCode(error)
  if (code === undefined) return error
  const reason = (error as Error).message
  if (corrupt.has(code)) return new SpiffeError('datastore_corrupt', `${file} is no intact database: ${reason}`, { cause: error })
  if (unavailable.has(code)) return new SpiffeError('datastore_unavailable', `${file} cannot be used now: ${reason}`, { cause: error })
  return error
}

import pg from 'pg'
import { SpiffeError } from '../../spiffe/errors.ts'

/** serialization failure, deadlock, unique key, foreign key: another transaction came first. */
const conflicts = new Set(['40001', '40P01', '23505', '23503'])
/** Classes: connection, authorization, resources, operator intervention, system; then: no such database, lock not available, read-only. */
const unavailable = /^(08|28|53|57|58)|^(3D000|55P03|25006)$/
const corrupt = /^XX00[12]$/

export function isPostgresConflict (error: unknown): boolean {
  return conflicts.has(sqlState(error) ?? '')
}

/** Whether the database says that these rows cannot be: they break a key, a type or a range. */
export function isPostgresViolation (error: unknown): boolean {
  return /^2[23]/.test(sqlState(error) ?? '')
}

/** Whether the connection the error came from is of no further use: whatever is not the server's own, orderly answer. */
export function breaksConnection (error: unknown): boolean {
  const state = sqlState(error)
  return state === undefined || /^(08|57P)/.test(state)
}

/** @param target what to call the database in the message, without a password */
export function translatePostgresError (error: unknown, target: string): unknown {
  if (!(error instanceof Error) || error instanceof SpiffeError) return error
  const reason = error instanceof AggregateError ? error.errors.map(String).join('; ') : error.message
  if (corrupt.test(sqlState(error) ?? '')) return new SpiffeError('datastore_corrupt', `${target} is damaged: ${reason}`, { cause: error })
  if (isLost(error)) return new SpiffeError('datastore_unavailable', `${target} cannot be used now: ${reason}`, { cause: error })
  return error
}

function isLost (error: Error): boolean {
  const state = sqlState(error)
  if (state !== undefined) return unavailable.test(state)
  // Sockets, name service and TLS give a code of Node's; a TypeError is a bug of ours all the same.
  if ('code' in error && typeof error.code === 'string') return !(error instanceof TypeError || error instanceof RangeError)
  return lostMessages.test(error.message)
}

/** How the messages begin that `pg` gives without a code when a connection ends, does not answer or is not let in. */
const lostMessages = new RegExp(`^(${[
  'connection terminated', 'client has encountered a connection error', 'timeout e', 'query read timeout', 'client was closed',
  'the server does not support ssl', 'sasl'
].join('|')})`, 'i')

function sqlState (error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined
}

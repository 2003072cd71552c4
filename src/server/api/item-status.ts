import { toItemStatus } from '../../rpc/status.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { StatusInit } from '../../wire/generated/types.ts'

/** The status of an item of a batch that went well. */
export const itemOk: StatusInit = { code: 0, message: 'OK' }

/** The status of a refused item. Whatever is not a refusal fails the whole call: it is a bug, not an answer. */
export function itemRefused (error: unknown, prefix = ''): StatusInit {
  if (!(error instanceof SpiffeError)) throw error
  const { code, message } = toItemStatus(error)
  return { code, message: prefix + message }
}

/**
 * The status of an entry that was refused. What SPIRE leaves to its datastore to refuse says so in its message, and clients match on that
 * (spire-surface §1.1).
 * @param verb what was tried, e.g. `create`
 */
export function entryRefused (error: SpiffeError, verb: 'create' | 'update'): StatusInit {
  if (error.message.startsWith('invalid registration entry: ')) return itemRefused(error, `failed to ${verb} entry: datastore-validation: `)
  if (error.code === 'administration_denied') return itemRefused(error)
  if (error.code === 'entry_malformed') return itemRefused(error, 'failed to convert entry: ')
  return itemRefused(error, `failed to ${verb} entry: ${error.code === 'entry_exists' ? 'datastore-sql: ' : ''}`)
}

/** Tells the items of a batch that passed their checks from those refused. */
export function isAccepted<T> (item: T | SpiffeError): item is Exclude<T, SpiffeError> {
  return !(item instanceof SpiffeError)
}

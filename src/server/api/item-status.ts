import { status } from '@grpc/grpc-js'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { StatusInit } from '../../wire/generated/types.ts'

/** The status of an item of a batch that went well. */
export const itemOk: StatusInit = { code: status.OK, message: 'OK' }

/** The status of a refused item. Whatever is not a refusal fails the whole call: it is a bug, not an answer. */
export function itemRefused (error: unknown, prefix = ''): StatusInit {
  if (!(error instanceof SpiffeError)) throw error
  return { code: status[error.row.status], message: prefix + error.message }
}

/** Tells the items of a batch that passed their checks from those refused. */
export function isAccepted<T> (item: T | SpiffeError): item is Exclude<T, SpiffeError> {
  return !(item instanceof SpiffeError)
}

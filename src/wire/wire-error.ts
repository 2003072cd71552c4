import { SpiffeError } from '../spiffe/errors.ts'

/** Bytes that are no message of the expected type; names what is wrong, never shows content. */
export function malformed (message: string): SpiffeError {
  return new SpiffeError('message_malformed', message)
}

import { SpiffeError } from '../spiffe/errors.ts'
import { parseTrustDomainOrId, pathOf, spiffeIdOf, trustDomainOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { SPIFFEID } from './generated/types.ts'

export function encodeSpiffeId (id: SpiffeId): SPIFFEID {
  return { trustDomain: trustDomainOf(id), path: pathOf(id) }
}

/** @throws {SpiffeError} `spiffe_id_malformed`, also when the message is missing */
export function decodeSpiffeId (message: SPIFFEID | undefined): SpiffeId {
  if (message === undefined) throw new SpiffeError('spiffe_id_malformed', 'request must specify SPIFFE ID')
  return spiffeIdOf(parseTrustDomainOrId(message.trustDomain), message.path)
}

/** The text of an ID that is checked later, with the field's own message. */
export function spiffeIdText (message: SPIFFEID | undefined): string {
  return message === undefined ? '' : `spiffe://${message.trustDomain}${message.path}`
}

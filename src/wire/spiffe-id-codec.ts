import { SpiffeError } from '../spiffe/errors.ts'
import { pathOf, spiffeIdOf, trustDomainOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from '../spiffe/trust-domain.ts'
import type { SPIFFEID } from './generated/types.ts'

export function encodeSpiffeId (id: SpiffeId): SPIFFEID {
  return { trustDomain: trustDomainOf(id), path: pathOf(id) }
}

/** @throws {SpiffeError} `spiffe_id_malformed`, also when the message is missing */
export function decodeSpiffeId (message: SPIFFEID | undefined): SpiffeId {
  if (message === undefined) throw new SpiffeError('spiffe_id_malformed', 'request must specify SPIFFE ID')
  return spiffeIdOf(decodeTrustDomain(message.trustDomain), message.path)
}

/** The text of an ID that is checked later, with the field's own message. */
export function spiffeIdText (message: SPIFFEID | undefined): string {
  return message === undefined ? '' : `spiffe://${message.trustDomain}${message.path}`
}

/** SPIRE's clients send a bare name or `spiffe://name`. @throws {SpiffeError} `trust_domain_malformed` */
export function decodeTrustDomain (text: string): TrustDomain {
  return parseTrustDomain(text.startsWith('spiffe://') ? text.slice('spiffe://'.length) : text)
}

import { checkAuthorities } from '../../federation/client/foreign-authorities.ts'
import { checkPin, verifyInvitation, type ParsedInvitation } from '../../federation/invitation/read-invitation.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

/** By what an invitation is checked, what is known best first. */
export interface KnownOfInviter {
  /** The acceptor's own. */
  readonly own: Bundle
  /** What the operator has by another way. */
  readonly given: Bundle | undefined
  /** What this side trusts already: no invitation may replace it. */
  readonly stored: Bundle | undefined
  /** Fetches what the invitation names, when nothing else is known. */
  readonly fetch: () => Promise<Bundle>
}

export interface Accepted {
  /** Stored with the relationship; absent: what is stored already stays. */
  readonly bundle: Bundle | undefined
  readonly checkedBy: 'given' | 'stored' | 'carried' | 'fetched'
}

/**
 * Believes an invitation, or refuses it.
 * @throws {SpiffeError} `federation_invalid`, `invitation_untrusted`, `invitation_expired`, `fetched_bundle_foreign`; of `fetch`
 */
export async function believe (parsed: ParsedInvitation, { own, given, stored, fetch }: KnownOfInviter, at: Date): Promise<Accepted> {
  const { claimed } = parsed
  const { endpoint: { trustDomain }, bundle: carried } = claimed
  if (trustDomain === own.trustDomain) throw new SpiffeError('federation_invalid', 'this is an invitation of this trust domain itself')
  if (given !== undefined) {
    verifyInvitation(parsed, given, at)
    checkPin(claimed, given)
    checkAuthorities(given, { own, partners: [] })
    return { bundle: given, checkedBy: 'given' }
  }
  if (stored !== undefined) {
    verifyInvitation(parsed, stored, at)
    return { bundle: undefined, checkedBy: 'stored' }
  }
  const bundle = carried ?? await fetch()
  verifyInvitation(parsed, bundle, at)
  checkPin(claimed, bundle)
  checkAuthorities(bundle, { own, partners: [] })
  return { bundle, checkedBy: carried === undefined ? 'fetched' : 'carried' }
}

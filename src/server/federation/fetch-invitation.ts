import type { AdminAccess } from '../../authz/admin/access.ts'
import { checkAuthorities } from '../../federation/client/foreign-authorities.ts'
import type { FetchDeps } from '../../federation/client/fetch-document.ts'
import { fetchInvited } from '../../federation/invitation/fetch-invited.ts'
import { parseInvitation, verifyInvitation } from '../../federation/invitation/read-invitation.ts'
import { formatBundleDocument } from '../../spiffe/bundle-document.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { FetchInvitedRequest, FetchInvitedResponseInit } from '../../wire/generated/federation.ts'

export interface FetchInvitationDeps extends FetchDeps {
  readonly ownBundle: () => Bundle
  readonly access: Pick<AdminAccess, 'require'>
}

/** @throws {SpiffeError} `federation_invalid`, `administration_denied`; as `parseInvitation`, `fetchInvited`, `verifyInvitation` */
export async function fetchInvitation (
  { invitation: text }: FetchInvitedRequest, { ownBundle, access, ...deps }: FetchInvitationDeps, signal: AbortSignal
): Promise<FetchInvitedResponseInit> {
  const parsed = parseInvitation(text)
  const { claimed } = parsed
  const { trustDomain } = claimed.endpoint
  const own = ownBundle()
  if (trustDomain === own.trustDomain) throw new SpiffeError('federation_invalid', 'this is an invitation of this trust domain itself')
  access.require('federation.write', { kind: 'federation', trustDomain })
  const now = deps.clock.now()
  if (claimed.expiresAt <= now) throw new SpiffeError('invitation_expired', `it was valid until ${claimed.expiresAt.toISOString()}`)
  const bundle = await fetchInvited(claimed, deps, signal)
  verifyInvitation(parsed, bundle, now)
  checkAuthorities(bundle, { own, partners: [] })
  return { bundle: formatBundleDocument(bundle) }
}

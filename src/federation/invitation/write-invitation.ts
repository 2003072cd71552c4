import { bundleObject, formatBundleDocument } from '../../spiffe/bundle-document.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { formatJson } from '../../spiffe/format-json.ts'
import { bundlePin } from './bundle-pin.ts'
import { invitationLimits, invitationType, type Invitation } from './invitation.ts'

export interface InvitationOrder extends Pick<Invitation, 'endpoint' | 'scope'> {
  /** The inviting domain's own, as it is published. */
  readonly bundle: Bundle
  readonly expiresAt: Date
  /** Whether the bundle comes along, unless it is too long. It makes an invitation some three times as long. */
  readonly carryBundle: boolean
}

export interface WrittenInvitation {
  readonly text: string
  readonly pin: string
  readonly carriesBundle: boolean
}

/** Signs with the JWT key of the inviting domain, which must be in the bundle. */
export type SignStatement = (payload: string, typ: typeof invitationType) => Promise<string>

/** @throws {SpiffeError} `argument_invalid` for an unusable scope; of `sign` */
export async function writeInvitation (
  { endpoint, scope, bundle, expiresAt, carryBundle }: InvitationOrder, sign: SignStatement
): Promise<WrittenInvitation> {
  const { mostScopeLength, mostBundleLength } = invitationLimits
  if (scope.length > mostScopeLength || !scope.isWellFormed() || /\p{Cc}/u.test(scope)) {
    throw new SpiffeError('argument_invalid', `scope is more than ${mostScopeLength} characters, or has one that cannot be shown`)
  }
  const { trustDomain, url, profile } = endpoint
  const pin = bundlePin(bundle)
  const carriesBundle = carryBundle && formatBundleDocument(bundle).length <= mostBundleLength
  const payload = formatJson({
    trust_domain: trustDomain,
    bundle_endpoint_url: url,
    bundle_endpoint_profile: profile.kind,
    ...profile.kind === 'https_spiffe' ? { endpoint_spiffe_id: profile.endpointId } : {},
    bundle_pin: pin,
    ...carriesBundle ? { bundle: bundleObject(bundle) } : {},
    ...scope === '' ? {} : { scope },
    exp: Math.floor(expiresAt.getTime() / 1_000)
  })
  return { text: await sign(payload, invitationType), pin, carriesBundle }
}

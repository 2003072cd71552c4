import { verifyEndpoint } from '../client/connect-endpoint.ts'
import { fetchBundle } from '../client/fetch-bundle.ts'
import type { FetchDeps } from '../client/fetch-document.ts'
import { isSelfServing } from '../../spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import type { Invitation } from './invitation.ts'
import { checkPin } from './read-invitation.ts'

/**
 * Fetches the bundle that an invitation names by endpoint and pin. In `https_spiffe` that bundle itself vouches for the endpoint, where it
 * is the partner's own: then the pin is checked first, the endpoint by what it gave after that, and no redirect is followed to
 * where nobody can be checked.
 * @throws {SpiffeError} `invitation_untrusted` when the keys are not those of the pin; as `fetchBundle`
 */
export async function fetchInvited (invitation: Invitation, deps: FetchDeps, signal: AbortSignal): Promise<Bundle> {
  const { endpoint } = invitation
  const { profile, trustDomain } = endpoint
  if (profile.kind === 'https_web' || !isSelfServing(profile, trustDomain)) {
    const { bundle } = await fetchBundle(endpoint, deps, signal)
    checkPin(invitation, bundle)
    return bundle
  }
  let shown: readonly Uint8Array[] = []
  const { bundle } = await fetchBundle(endpoint, { ...deps, followRedirects: false, onShown: chain => { shown = chain } }, signal)
  checkPin(invitation, bundle)
  verifyEndpoint(shown, profile.endpointId, bundle, deps.clock.now())
  return bundle
}

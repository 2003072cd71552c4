import type { CertificateAuthority } from '../../ca/certificate-authority.ts'
import { invitationLimits } from '../../federation/invitation/invitation.ts'
import { writeInvitation } from '../../federation/invitation/write-invitation.ts'
import type { Clock } from '../../runtime/clock.ts'
import { parseBundleEndpoint } from '../../spiffe/bundle-endpoint.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { serverIdOf } from '../../spiffe/member-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { InviteRequest, InviteResponseInit } from '../../wire/generated/federation.ts'
import type { BundleEndpointConfig } from './federation-config.ts'

export interface InviteDeps {
  readonly trustDomain: TrustDomain
  readonly authority: Pick<CertificateAuthority, 'bundle' | 'signStatement'>
  /** Of this server, if it has one. */
  readonly bundleEndpoint: BundleEndpointConfig | undefined
  readonly clock: Clock
}

/** @throws {SpiffeError} `argument_invalid`, `bundle_endpoint_malformed`, `spiffe_id_malformed`, `jwt_disabled` */
export async function invite (request: InviteRequest, deps: InviteDeps): Promise<InviteResponseInit> {
  const { trustDomain, authority, bundleEndpoint, clock } = deps
  const { usualTtlSeconds, mostTtlSeconds } = invitationLimits
  const ttl = request.ttlSeconds === 0n ? usualTtlSeconds : Number(request.ttlSeconds)
  if (ttl < 0 || ttl > mostTtlSeconds) throw new SpiffeError('argument_invalid', `ttl_seconds must be from 1 to ${mostTtlSeconds}`)
  const endpoint = parseBundleEndpoint({ trustDomain, url: request.bundleEndpointUrl, ...profileOf(request, trustDomain, bundleEndpoint) })
  const { statement, expiresAt } = await authority.signStatement(new Date(clock.now().getTime() + ttl * 1_000), (expiresAt, sign) =>
    writeInvitation({
      endpoint, scope: request.scope, bundle: authority.bundle.value, expiresAt, carryBundle: request.carryBundle
    }, sign))
  const { text: invitation, pin, carriesBundle } = statement
  return { invitation, pin, carriesBundle, expiresAt: Math.floor(expiresAt.getTime() / 1_000) }
}

function profileOf (
  { bundleEndpointProfile, endpointSpiffeId }: InviteRequest, trustDomain: TrustDomain, configured: BundleEndpointConfig | undefined
): { profile: string, endpointId: string | undefined } {
  const profile = bundleEndpointProfile === '' ? configured?.profile.kind : bundleEndpointProfile
  if (profile === undefined) {
    throw new SpiffeError('argument_invalid', 'this server has no bundle endpoint: say in which profile the bundle is served elsewhere')
  }
  if (endpointSpiffeId !== '') return { profile, endpointId: endpointSpiffeId }
  return { profile, endpointId: profile === 'https_spiffe' ? serverIdOf(trustDomain) : undefined }
}

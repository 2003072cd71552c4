import { signedBundleLimits } from '../../federation/signed-bundle/signed-bundle.ts'
import { writeSignedBundle } from '../../federation/signed-bundle/write-signed-bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { SignBundleRequest, SignBundleResponseInit } from '../../wire/generated/federation.ts'
import type { InviteDeps } from './invite.ts'

/** @throws {SpiffeError} `argument_invalid`, `jwt_disabled` */
export async function signBundle (
  { ttlSeconds }: SignBundleRequest, { authority, clock }: Pick<InviteDeps, 'authority' | 'clock'>
): Promise<SignBundleResponseInit & { readonly signedBundle: string }> {
  const { usualTtlSeconds, mostTtlSeconds } = signedBundleLimits
  const ttl = ttlSeconds === 0n ? usualTtlSeconds : Number(ttlSeconds)
  if (ttl < 0 || ttl > mostTtlSeconds) throw new SpiffeError('argument_invalid', `ttl_seconds must be from 1 to ${mostTtlSeconds}`)
  const { statement: signedBundle, expiresAt } = await authority.signStatement(new Date(clock.now().getTime() + ttl * 1_000),
    (expiresAt, sign) => writeSignedBundle(authority.bundle.value, expiresAt, sign))
  return { signedBundle, expiresAt: Math.floor(expiresAt.getTime() / 1_000) }
}

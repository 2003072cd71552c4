import type { Bundle, JwtAuthority } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseTrustDomainOrId } from '../spiffe/spiffe-id.ts'
import type { Bundle as BundleMessage, BundleInit, BundleMask, JWTKey, JWTKeyInit } from './generated/types.ts'

/** @param mask fields to keep; the trust domain is always kept, everything without a mask (spire-surface §1.4) */
export function encodeBundle (bundle: Bundle, mask?: BundleMask): BundleInit {
  const message = {
    trustDomain: bundle.trustDomain,
    x509Authorities: bundle.x509Authorities.map(({ certificate, tainted }) => ({ asn1: certificate, tainted })),
    jwtAuthorities: bundle.jwtAuthorities.map(encodeJwtAuthority),
    refreshHint: bundle.refreshHintSeconds ?? 0,
    sequenceNumber: bundle.sequenceNumber ?? 0n
  }
  if (mask === undefined) return message
  return Object.fromEntries(Object.entries(message).filter(([name]) => name === 'trustDomain' || mask[name as keyof BundleMask]))
}

export function encodeJwtAuthority ({ keyId, publicKey, expiresAt, tainted }: JwtAuthority): JWTKeyInit {
  return { keyId, publicKey, expiresAt: expiresAt === undefined ? 0 : Math.floor(expiresAt.getTime() / 1000), tainted }
}

/**
 * A bundle as sent. Certificates and keys are not looked into here: whoever stores or trusts them does.
 * @throws {SpiffeError} `trust_domain_malformed`, `bundle_malformed`
 */
export function decodeBundle (message: BundleMessage): Bundle {
  if (message.refreshHint < 0n) throw new SpiffeError('bundle_malformed', `refresh hint ${message.refreshHint} is negative`)
  return {
    trustDomain: parseTrustDomainOrId(message.trustDomain),
    x509Authorities: message.x509Authorities.map(({ asn1, tainted }) => ({ certificate: asn1, tainted })),
    jwtAuthorities: message.jwtAuthorities.map(decodeJwtAuthority),
    sequenceNumber: message.sequenceNumber,
    refreshHintSeconds: message.refreshHint === 0n ? undefined : Math.min(Number(message.refreshHint), Number.MAX_SAFE_INTEGER)
  }
}

/** @throws {SpiffeError} `bundle_malformed` */
export function decodeJwtAuthority ({ keyId, publicKey, expiresAt, tainted }: JWTKey): JwtAuthority {
  if (keyId === '') throw new SpiffeError('bundle_malformed', 'missing key ID')
  if (publicKey.length === 0) throw new SpiffeError('bundle_malformed', 'missing public key')
  return { keyId, publicKey, expiresAt: expiresAt === 0n ? undefined : instantOf(expiresAt), tainted }
}

/** Seconds before and after 1970 that a `Date` can tell. */
const furthest = 8_640_000_000_000n

/** Of times that are further away, the furthest there is. @param seconds since 1970 */
function instantOf (seconds: bigint): Date {
  return new Date(Number(seconds > furthest ? furthest : seconds < -furthest ? -furthest : seconds) * 1000)
}

import type { BundleEndpoint } from '../../spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../spiffe/bundle.ts'

/**
 * What the operator of one trust domain gives the operator of another, who then can federate with it: whose bundle is where, and which
 * keys it has. Whoever hands it over vouches for it; what it proves by itself is that it was not changed, and that the
 * domain's server signed it.
 */
export interface Invitation {
  readonly endpoint: BundleEndpoint
  /** See `bundlePin`. */
  readonly pin: string
  /** Absent unless it was asked for, and when it is long: then whoever accepts fetches it from the endpoint. */
  readonly bundle: Bundle | undefined
  /** What the inviting domain asks for, in words; may be empty. Grants nothing. */
  readonly scope: string
  readonly expiresAt: Date
}

/** `typ` of the JWS. */
export const invitationType = 'assay-federation-invitation+jwt'

export const invitationLimits = {
  /** Characters of the whole. */
  mostLength: 65_536,
  /** Of the bundle's document: a longer one is left out. Room for some ten keys. */
  mostBundleLength: 16_384,
  mostScopeLength: 1_000,
  usualTtlSeconds: 86_400,
  mostTtlSeconds: 31 * 86_400
}

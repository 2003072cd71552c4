import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { formatPublicJwk } from '../spiffe/json-web-key.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { parseCertificate } from '../x509/certificate.ts'

/**
 * Checks a bundle that came from the server before it replaces the one in use: a bundle that trusts nobody, or cannot be parsed, would
 * cut the agent off from its server for good.
 * @throws {SpiffeError} `bundle_malformed`
 */
export function ownBundleOf (bundle: Bundle, trustDomain: TrustDomain): Bundle {
  if (bundle.trustDomain !== trustDomain) {
    throw new SpiffeError('bundle_malformed', `the server sent the bundle of ${bundle.trustDomain} instead of ${trustDomain}`)
  }
  if (bundle.x509Authorities.length === 0) throw new SpiffeError('bundle_malformed', 'the server sent a bundle without X.509 authorities')
  return usableBundle(bundle)
}

/**
 * A bundle fit to be handed on: JWT keys that no validator could use are left out, since one of them would spoil the whole set.
 * @throws {SpiffeError} `bundle_malformed` when a certificate cannot be parsed
 */
export function usableBundle (bundle: Bundle): Bundle {
  for (const { certificate } of bundle.x509Authorities) {
    try {
      parseCertificate(certificate)
    } catch (error) {
      throw new SpiffeError(
        'bundle_malformed', `the bundle of ${bundle.trustDomain} has a certificate that cannot be parsed`, { cause: error }
      )
    }
  }
  return { ...bundle, jwtAuthorities: bundle.jwtAuthorities.filter(({ publicKey }) => isUsableKey(publicKey)) }
}

function isUsableKey (publicKey: Uint8Array): boolean {
  try {
    formatPublicJwk(publicKey)
    return true
  } catch {
    return false
  }
}

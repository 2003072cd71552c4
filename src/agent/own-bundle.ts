import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
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

/** @throws {SpiffeError} `bundle_malformed` when a certificate cannot be parsed */
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
  return bundle
}

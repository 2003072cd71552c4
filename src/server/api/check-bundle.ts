import type { Bundle, X509Authority } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { formatPublicJwk } from '../../spiffe/json-web-key.ts'
import { parseCertificate, splitCertificates } from '../../x509/certificate.ts'

const maxAuthorities = 1000

/** Clients may send several certificates in one field, back to back; stored are single ones. @throws {SpiffeError} `bundle_malformed` */
export function splitX509Authorities (authorities: readonly X509Authority[]): X509Authority[] {
  return authorities.flatMap(({ certificate, tainted }) => {
    try {
      return splitCertificates(certificate).map(single => ({ certificate: single, tainted }))
    } catch (error) {
      throw new SpiffeError('bundle_malformed', `unable to parse X.509 authority: ${(error as Error).message}`, { cause: error })
    }
  })
}

/**
 * Looks into every certificate and key of a bundle that is about to be stored: what a validator would choke on later is refused now.
 * @throws {SpiffeError} `bundle_malformed`
 */
export function checkBundleContent<T extends Pick<Bundle, 'x509Authorities' | 'jwtAuthorities'>> (bundle: T): T {
  if (bundle.x509Authorities.length + bundle.jwtAuthorities.length > maxAuthorities) {
    throw new SpiffeError('bundle_malformed', `more than ${maxAuthorities} authorities`)
  }
  for (const { certificate } of bundle.x509Authorities) {
    try {
      parseCertificate(certificate)
    } catch (error) {
      throw new SpiffeError('bundle_malformed', `unable to parse X.509 authority: ${(error as Error).message}`, { cause: error })
    }
  }
  const seen = new Set<string>()
  for (const { keyId, publicKey } of bundle.jwtAuthorities) {
    if (seen.has(keyId)) throw new SpiffeError('bundle_malformed', `key ID ${JSON.stringify(keyId)} is there twice`)
    seen.add(keyId)
    try {
      formatPublicJwk(publicKey)
    } catch (error) {
      throw new SpiffeError(
        'bundle_malformed', `unable to parse the public key of JWT authority ${JSON.stringify(keyId)}`, { cause: error }
      )
    }
  }
  return bundle
}

import type { Bundle } from '../../spiffe/bundle.ts'
import { parseCertificate } from '../../x509/certificate.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

/** Bundles are values: each is looked at once. */
const cache = new WeakMap<Bundle, Date | undefined>()

/**
 * When the last X.509 authority of a bundle expires: no X509-SVID of the domain is accepted any more unless a newer bundle has come by
 * then.
 * @returns `undefined` when it has none: there is nothing to end. JWT keys of others tell no end.
 */
export function trustEnds (bundle: Bundle): Date | undefined {
  if (cache.has(bundle)) return cache.get(bundle)
  const ends = bundle.x509Authorities.map(({ certificate }) => endOf(certificate))
  const last = ends.length === 0 ? undefined : new Date(Math.max(...ends))
  cache.set(bundle, last)
  return last
}

function endOf (certificate: Uint8Array): number {
  try {
    return parseCertificate(certificate).notAfter.getTime()
  } catch (error) {
    // It verifies nothing, and so has no say.
    if (error instanceof SpiffeError) return 0
    throw error
  }
}

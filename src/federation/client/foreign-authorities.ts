import { X509Certificate } from 'node:crypto'
import type { Bundle, X509Authority } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseSpiffeId, trustDomainOf } from '../../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import { parseCertificate, type Certificate } from '../../x509/certificate.ts'

export interface KnownBundles {
  /** Of our own trust domain. */
  readonly own: Bundle | undefined
  /** Of other domains that we federate with. */
  readonly partners: Iterable<Bundle>
}

/**
 * Refuses a bundle that is evidently another domain's: whose authorities it has could issue this domain's IDs (TDB-04). Evident is an
 * authority of our own, one that another partner publishes and whose certificate names that partner, or certificates that all name another
 * domain. That two partners share an authority is no proof by itself: a hostile one could publish another's new key first, and would keep
 * it out. What a certificate's URI says is never a reason to leave out that certificate alone (AMB-03).
 * @throws {SpiffeError} `fetched_bundle_foreign`
 */
export function checkAuthorities (offered: Bundle, { own, partners }: KnownBundles): void {
  const named = offered.x509Authorities.map(domainNamedBy)
  const keys = offered.x509Authorities.map(keyOf)
  if (own !== undefined && own.trustDomain !== offered.trustDomain) checkOwn(offered, keys, own)
  for (const partner of partners) {
    if (partner.trustDomain === offered.trustDomain) continue
    const theirs = new Set(partner.x509Authorities.map(keyOf))
    const at = keys.findIndex((key, index) => named[index] === partner.trustDomain && theirs.has(key))
    if (at >= 0) throw foreign(`what is offered for ${offered.trustDomain} has an authority of ${partner.trustDomain}`)
  }
  const names = new Set(named)
  const [name] = names
  if (names.size !== 1 || name === undefined || name === offered.trustDomain) return
  throw foreign(`every certificate that is offered for ${offered.trustDomain} names ${name} instead`)
}

function checkOwn (offered: Bundle, keys: readonly string[], own: Bundle): void {
  const ours = new Set([...own.x509Authorities.map(keyOf), ...own.jwtAuthorities.map(({ publicKey }) => textOf(publicKey))])
  const theirs = [...keys, ...offered.jwtAuthorities.map(({ publicKey }) => textOf(publicKey))]
  if (!theirs.some(key => ours.has(key))) return
  throw foreign(`what is offered for ${offered.trustDomain} has an authority of our own ${own.trustDomain}`)
}

/** Bundles are values: what is read of them once stays true. */
const keyCache = new WeakMap<X509Authority, string>()

function keyOf (authority: X509Authority): string {
  const known = keyCache.get(authority)
  if (known !== undefined) return known
  const key = textOf(readCertificate(authority)?.publicKey ?? keyAlone(authority))
  keyCache.set(authority, key)
  return key
}

/**
 * `undefined`: it verifies nothing here, and others may read it. What comes with it counts all the same: a bundle that were refused for one
 * such certificate would leave authorities in force that the partner has taken out.
 */
function readCertificate ({ certificate }: X509Authority): Certificate | undefined {
  try {
    return parseCertificate(certificate)
  } catch (error) {
    if (error instanceof SpiffeError) return undefined
    throw error
  }
}

/** Of a certificate that whoever read the bundle could read (`readBundle`). */
function keyAlone ({ certificate }: X509Authority): Uint8Array {
  return new X509Certificate(certificate).publicKey.export({ format: 'der', type: 'spki' })
}

/** `undefined`: it names none, or nothing that can be read (AMB-03). */
function domainNamedBy (authority: X509Authority): TrustDomain | undefined {
  const [uri] = readCertificate(authority)?.uriSans ?? []
  try {
    // The standard's own examples have a slash at the end.
    return uri === undefined ? undefined : trustDomainOf(parseSpiffeId(uri.replace(/\/$/, '')))
  } catch (error) {
    if (error instanceof SpiffeError) return undefined
    throw error
  }
}

function textOf (spki: Uint8Array): string { return Buffer.from(spki).toString('base64') }

function foreign (rule: string): SpiffeError { return new SpiffeError('fetched_bundle_foreign', rule, { requirement: 'TDB-04' }) }

import { X509Certificate } from 'node:crypto'
import type { Bundle, JwtAuthority, X509Authority } from './bundle.ts'
import { SpiffeError } from './errors.ts'

export type BundleContent = Omit<Bundle, 'trustDomain' | 'sequenceNumber'>

/**
 * The bundle with new content and the next sequence number, or the same bundle if nothing differs (TDB-06). The order of
 * authorities is no content. A bundle without a number starts at 1.
 */
export function withContent (bundle: Bundle, content: Partial<BundleContent>): Bundle {
  const next = { ...bundle, ...content }
  if (fingerprint(next) === fingerprint(bundle)) return bundle
  return { ...next, sequenceNumber: (bundle.sequenceNumber ?? 0n) + 1n }
}

/** Beyond it no number is raised: one near the end of 64 bits would leave none for what changes later, and JSON keeps 53 bits exactly. */
export const mostRaisedSequence = 2n ** 48n

/**
 * The same content under `least` or the higher number that it has: partners tell old from new by it (TDB-06).
 * @throws {SpiffeError} `argument_invalid` above `mostRaisedSequence`
 */
export function raiseSequence (bundle: Bundle, least: bigint): Bundle {
  if (least > mostRaisedSequence) {
    throw new SpiffeError('argument_invalid', `a sequence number can be raised to ${mostRaisedSequence} at most, not to ${least}`)
  }
  return least <= (bundle.sequenceNumber ?? 0n) ? bundle : { ...bundle, sequenceNumber: least }
}

/**
 * Adds the authorities that are not there yet; known ones keep their place and taint.
 * @throws {SpiffeError} `bundle_malformed` if a known key ID comes with another key
 */
export function appendAuthorities (bundle: Bundle, added: Partial<Pick<Bundle, 'x509Authorities' | 'jwtAuthorities'>>): Bundle {
  const x509Authorities = [...bundle.x509Authorities]
  for (const authority of added.x509Authorities ?? []) {
    if (!x509Authorities.some(known => equal(known.certificate, authority.certificate))) x509Authorities.push(authority)
  }
  const jwtAuthorities = [...bundle.jwtAuthorities]
  for (const authority of added.jwtAuthorities ?? []) {
    const known = jwtAuthorities.find(({ keyId }) => keyId === authority.keyId)
    if (known === undefined) {
      jwtAuthorities.push(authority)
    } else if (!equal(known.publicKey, authority.publicKey)) {
      throw new SpiffeError('bundle_malformed', `key ID ${JSON.stringify(authority.keyId)} is in use for another key`)
    }
  }
  return withContent(bundle, { x509Authorities, jwtAuthorities })
}

/** Marks one authority as not to be trusted much longer: what it signed is replaced before it goes. @param certificate DER */
export function taintX509Authority (bundle: Bundle, certificate: Uint8Array): Bundle {
  return withContent(bundle, {
    x509Authorities: bundle.x509Authorities.map(known => equal(known.certificate, certificate) ? { ...known, tainted: true } : known)
  })
}

/** Like `taintX509Authority`, for a JWT key. */
export function taintJwtAuthority (bundle: Bundle, keyId: string): Bundle {
  return withContent(bundle, {
    jwtAuthorities: bundle.jwtAuthorities.map(known => known.keyId === keyId ? { ...known, tainted: true } : known)
  })
}

/** Revokes: whatever this CA signed fails from now on (TDB-15). @param certificate DER */
export function removeX509Authority (bundle: Bundle, certificate: Uint8Array): Bundle {
  return withContent(bundle, { x509Authorities: bundle.x509Authorities.filter(known => !equal(known.certificate, certificate)) })
}

/** Like `removeX509Authority`, for a JWT key. */
export function removeJwtAuthority (bundle: Bundle, keyId: string): Bundle {
  return withContent(bundle, { jwtAuthorities: bundle.jwtAuthorities.filter(known => known.keyId !== keyId) })
}

/**
 * Drops certificates past their notAfter and JWT keys past `expiresAt`; keys without an end stay.
 * @param notAfterOf reads a certificate in DER; by default with OpenSSL
 */
export function pruneExpired (bundle: Bundle, at: Date, notAfterOf: (certificate: Uint8Array) => Date = readNotAfter): Bundle {
  return withContent(bundle, {
    x509Authorities: bundle.x509Authorities.filter(({ certificate }) => notAfterOf(certificate) >= at),
    jwtAuthorities: bundle.jwtAuthorities.filter(({ expiresAt }) => expiresAt === undefined || expiresAt >= at)
  })
}

function readNotAfter (certificate: Uint8Array): Date {
  return new X509Certificate(certificate).validToDate
}

/** Whether two bundles say the same, their sequence numbers included. */
export function sameBundle (a: Bundle, b: Bundle): boolean {
  return a.trustDomain === b.trustDomain && a.sequenceNumber === b.sequenceNumber && fingerprint(a) === fingerprint(b)
}

function fingerprint (bundle: Bundle): string {
  const x509 = ({ certificate, tainted }: X509Authority) => `x509 ${encode(certificate)} ${tainted}`
  const jwt = ({ keyId, publicKey, expiresAt, tainted }: JwtAuthority) =>
    `jwt ${JSON.stringify(keyId)} ${encode(publicKey)} ${expiresAt?.getTime() ?? ''} ${tainted}`
  const authorities = [...bundle.x509Authorities.map(x509), ...bundle.jwtAuthorities.map(jwt)].toSorted()
  return [bundle.refreshHintSeconds ?? '', ...authorities].join('\n')
}

function equal (a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

function encode (bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}

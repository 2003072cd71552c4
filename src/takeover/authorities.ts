import { createHash } from 'node:crypto'
import type { Bundle, JwtAuthority, X509Authority } from '../spiffe/bundle.ts'
import { parseCertificate } from '../x509/certificate.ts'

export interface Authorities {
  readonly x509: readonly X509Authority[]
  readonly jwt: readonly JwtAuthority[]
}

/** Authorities of a bundle by names that tell them apart: what a journal remembers of them. */
export interface AuthorityNames {
  /** SHA-256 of the certificate's DER, hex. */
  readonly x509: readonly string[]
  /** Key IDs. */
  readonly jwt: readonly string[]
}

export function x509NameOf ({ certificate }: X509Authority): string {
  return createHash('sha256').update(certificate).digest('hex')
}

export function namesOf ({ x509, jwt }: Authorities): AuthorityNames {
  return { x509: x509.map(x509NameOf), jwt: jwt.map(({ keyId }) => keyId) }
}

/**
 * What `to` lacks of `from`. An authority that ends before `at` is worth no copy, and one that `from` got from `to` goes back to nobody:
 * `to` has revoked it.
 */
export function missingIn (to: Bundle, from: Bundle, gotten: AuthorityNames, at: Date): Authorities {
  const x509 = new Set([...to.x509Authorities.map(x509NameOf), ...gotten.x509])
  const jwt = new Set([...to.jwtAuthorities.map(({ keyId }) => keyId), ...gotten.jwt])
  return {
    x509: from.x509Authorities.filter(authority => !x509.has(x509NameOf(authority)) && endOf(authority) > at),
    jwt: from.jwtAuthorities.filter(({ keyId, expiresAt }) => !jwt.has(keyId) && (expiresAt === undefined || expiresAt > at))
  }
}

export interface Copy<Authority> {
  readonly authority: Authority
  /** Whether the side that it came from has revoked it; else it has tainted it, and the copy is not. */
  readonly revoked: boolean
}

export interface OutdatedCopies { readonly x509: readonly Copy<X509Authority>[], readonly jwt: readonly Copy<JwtAuthority>[] }

/** Copies at `copy` of what `origin` has tainted or revoked since. Of an origin that has none of them any more nothing is believed. */
export function outdatedCopies (origin: Bundle, copy: Bundle, copied: AuthorityNames, at: Date): OutdatedCopies {
  const outdated = <A extends { readonly tainted: boolean }> (
    from: readonly A[], to: readonly A[], names: readonly string[], nameOf: (authority: A) => string, ended: (authority: A) => boolean
  ) => {
    const originals = new Map(from.map(authority => [nameOf(authority), authority]))
    if (!names.some(name => originals.has(name))) return []
    return to.filter(authority => names.includes(nameOf(authority)) && !ended(authority)).flatMap((authority): Copy<A>[] => {
      const original = originals.get(nameOf(authority))
      if (original === undefined) return [{ authority, revoked: true }]
      return original.tainted && !authority.tainted ? [{ authority, revoked: false }] : []
    })
  }
  return {
    x509: outdated(origin.x509Authorities, copy.x509Authorities, copied.x509, x509NameOf, authority => endOf(authority) <= at),
    jwt: outdated(origin.jwtAuthorities, copy.jwtAuthorities, copied.jwt, ({ keyId }) => keyId,
      ({ expiresAt }) => expiresAt !== undefined && expiresAt <= at)
  }
}

/** Key IDs that both sides have for different keys: no verifier could tell which one is meant. */
export function clashingKeyIds (a: Bundle, b: Bundle): readonly string[] {
  return a.jwtAuthorities.filter(({ keyId, publicKey }) =>
    b.jwtAuthorities.some(other => other.keyId === keyId && Buffer.compare(other.publicKey, publicKey) !== 0)).map(({ keyId }) => keyId)
}

/** Whether one of these signs: IDs of authorities, as `getX509AuthorityState` and `getJWTAuthorityState` name them. */
export function signsBy ({ x509, jwt }: Authorities, active: { readonly x509: string, readonly jwt: string }): boolean {
  return jwt.some(({ keyId }) => keyId === active.jwt) ||
    x509.some(({ certificate }) => Buffer.from(parseCertificate(certificate).subjectKeyId ?? []).toString('hex') === active.x509)
}

export function endOf ({ certificate }: X509Authority): Date { return parseCertificate(certificate).notAfter }

export function isEmpty ({ x509, jwt }: Authorities): boolean { return x509.length + jwt.length === 0 }

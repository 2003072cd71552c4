import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError, type ErrorCode } from '../spiffe/errors.ts'
import { pathOf, parseSpiffeId } from '../spiffe/spiffe-id.ts'
import type { Certificate } from './certificate.ts'
import { nameOutside } from './name-constraints.ts'
import { oid } from './oid.ts'
import { parsePublicKey } from './public-key.ts'
import { algorithmOid, findSignatureAlgorithm, verifySignature, type SignatureAlgorithm } from './signature-algorithm.ts'
import { issuerCandidate, nameKey, trustAnchorsOf, type IssuerCandidate, type TrustAnchors } from './trust-anchors.ts'

/** Signatures one validation may check: a hostile chain, or a bundle of many authorities alike, costs no more. */
const maxSignatureChecks = 100

/**
 * Finds a path that passes RFC 5280 §6.1 at this time; every candidate is tried before it is given up.
 * @param others in any order; unrelated ones are ignored
 * @returns leaf first, authority last
 * @throws {SpiffeError} `x509_svid_invalid`, `x509_chain_untrusted`, `x509_svid_expired`: the failure of the path that came furthest
 */
export function findPath (leaf: Certificate, others: readonly Certificate[], bundle: Bundle, at: Date): readonly Certificate[] {
  checkStrength(leaf)
  checkTime(leaf, at)
  const search = new PathSearch(others, trustAnchorsOf(bundle), at)
  const path = search.extend([leaf])
  if (path !== undefined) return path
  throw search.failure ?? untrusted('X509-21', `no authority of ${bundle.trustDomain} signed this chain`)
}

class PathSearch {
  readonly #intermediates = new Map<string, IssuerCandidate[]>()
  readonly #anchors: TrustAnchors
  readonly #at: Date
  #checksLeft = maxSignatureChecks
  #failure: { readonly error: SpiffeError, readonly depth: number } | undefined

  constructor (others: readonly Certificate[], anchors: TrustAnchors, at: Date) {
    this.#anchors = anchors
    this.#at = at
    for (const certificate of others) {
      // Nobody is issued by what is no CA, so such a one is unrelated.
      const candidate = certificate.isCa ? issuerCandidate(certificate) : undefined
      if (candidate === undefined) continue
      const subject = nameKey(certificate.subjectDer)
      this.#intermediates.set(subject, [...this.#intermediates.get(subject) ?? [], candidate])
    }
  }

  get failure (): SpiffeError | undefined { return this.#failure?.error }

  /** @param path leaf first */
  extend (path: readonly Certificate[]): readonly Certificate[] | undefined {
    const last = path.at(-1) as Certificate
    const issuer = nameKey(last.issuerDer)
    for (const anchor of likelyFirst(this.#anchors.get(issuer) ?? [], last)) {
      if (this.#accepts(path, anchor, true)) return [...path, anchor.certificate]
    }
    for (const candidate of likelyFirst(this.#intermediates.get(issuer) ?? [], last)) {
      if (path.some(certificate => isSameEntity(certificate, candidate.certificate)) || !this.#accepts(path, candidate, false)) continue
      const found = this.extend([...path, candidate.certificate])
      if (found !== undefined) return found
    }
    return undefined
  }

  /** Whether the candidate signed the path's end and may have. */
  #accepts (path: readonly Certificate[], { certificate: issuer, facts, key }: IssuerCandidate, isAnchor: boolean): boolean {
    const signed = path.at(-1) as Certificate
    if (this.#checksLeft-- <= 0) {
      const error = untrusted('X509-19', `more than ${maxSignatureChecks} signatures would have to be checked`)
      this.#failure = { error, depth: Infinity }
      return false
    }
    try {
      const { signature, tbs } = signed
      if (!verifySignature(checkStrength(signed), tbs, signature, { facts, key })) {
        throw untrusted('X509-19', 'a signature is not of the key of the issuer that is named')
      }
    } catch (error) {
      this.#note(path, error)
      return false
    }
    try {
      checkIssuer(issuer, isAnchor)
      checkTime(issuer, this.#at)
      checkPathLength(issuer, path)
      checkNames(issuer, path)
      return true
    } catch (error) {
      this.#note([...path, issuer], error)
      return false
    }
  }

  #note (path: readonly Certificate[], error: unknown): void {
    if (!(error instanceof SpiffeError)) throw error
    if (path.length > (this.#failure?.depth ?? 0)) this.#failure = { error, depth: path.length }
  }
}

/** Key identifiers are hints for the order (RFC 5280 §4.2.1.1): those that match, those that say nothing, the rest. */
function likelyFirst (candidates: readonly IssuerCandidate[], { authorityKeyId }: Certificate): readonly IssuerCandidate[] {
  if (candidates.length < 2 || authorityKeyId === undefined) return candidates
  const rank = ({ certificate: { subjectKeyId } }: IssuerCandidate) =>
    subjectKeyId === undefined ? 1 : Buffer.compare(subjectKeyId, authorityKeyId) === 0 ? 0 : 2
  return candidates.toSorted((a, b) => rank(a) - rank(b))
}

function isSameEntity (a: Certificate, b: Certificate): boolean {
  return Buffer.compare(a.subjectDer, b.subjectDer) === 0 && Buffer.compare(a.publicKey, b.publicKey) === 0
}

/** Refuses weak signatures and keys anywhere on the path (AMB-24). */
function checkStrength (certificate: Certificate): SignatureAlgorithm {
  const algorithm = findSignatureAlgorithm(certificate.signatureAlgorithm)
  if (algorithm === undefined) {
    throw refused('x509_svid_invalid', 'AMB-24', `signature algorithm ${algorithmOid(certificate.signatureAlgorithm)} is not accepted`)
  }
  try {
    parsePublicKey(certificate.publicKey)
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw new SpiffeError('x509_svid_invalid', error.message, { cause: error, requirement: 'AMB-24' })
  }
  return algorithm
}

function checkTime ({ notBefore, notAfter }: Certificate, at: Date): void {
  const expired = (message: string) => refused('x509_svid_expired', 'X509-19', message)
  if (at < notBefore) throw expired(`a certificate is valid from ${notBefore.toISOString()}, which is not yet`)
  if (at > notAfter) throw expired(`a certificate was valid until ${notAfter.toISOString()}`)
}

/**
 * @param isAnchor what the operator put into a bundle needs no key usage, and its URI SAN is not looked at (AMB-03)
 */
function checkIssuer (issuer: Certificate, isAnchor: boolean): void {
  const { isCa, keyUsage, extendedKeyUsage, unknownCritical } = issuer
  if (!isCa) throw untrusted('X509-11', 'an issuer is no CA: basicConstraints lacks cA')
  if (isAnchor ? keyUsage?.has('keyCertSign') === false : keyUsage?.has('keyCertSign') !== true) {
    throw untrusted('X509-07', 'an issuer lacks the key usage keyCertSign')
  }
  if (extendedKeyUsage !== undefined && !extendedKeyUsage.has(oid.anyExtendedKeyUsage)) {
    for (const purpose of ['serverAuth', 'clientAuth'] as const) {
      if (!extendedKeyUsage.has(oid[purpose])) throw untrusted('X509-18', `extendedKeyUsage of an issuer lacks ${purpose}`)
    }
  }
  if (unknownCritical[0] !== undefined) throw untrusted('X509-19', `critical extension ${unknownCritical[0]} of an issuer is unknown`)
  if (isAnchor) checkStrength(issuer)
  else checkIssuerId(issuer)
}

/** An intermediate's SPIFFE ID, if it has one, has no path; it may lie in another trust domain (X509-10). */
function checkIssuerId ({ uriSans }: Certificate): void {
  if (uriSans.length > 1) throw untrusted('X509-02', `an issuer has ${uriSans.length} URI SANs`)
  const [uri] = uriSans
  if (uri === undefined || !/^spiffe:/i.test(uri)) return
  try {
    if (pathOf(parseSpiffeId(uri)) === '') return
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw new SpiffeError('x509_chain_untrusted', `an issuer's URI SAN: ${error.message}`, { cause: error, requirement: 'X509-09' })
  }
  throw untrusted('X509-09', `an issuer has an ID with a path: ${uri}`)
}

/** @param below leaf first; those issued by themselves do not count (RFC 5280 §4.2.1.9) */
function checkPathLength ({ pathLength }: Certificate, below: readonly Certificate[]): void {
  if (pathLength === undefined) return
  const count = below.slice(1).filter(certificate => !isSelfIssued(certificate)).length
  if (count > pathLength) throw untrusted('X509-19', `${count} CA certificates below one that allows ${pathLength}`)
}

/** @param below leaf first; a self-issued intermediate is exempt (RFC 5280 §6.1.3 b, c) */
function checkNames ({ nameConstraints }: Certificate, below: readonly Certificate[]): void {
  if (nameConstraints === undefined) return
  for (const [index, certificate] of below.entries()) {
    if (index > 0 && isSelfIssued(certificate)) continue
    const outside = nameOutside(nameConstraints, certificate)
    if (outside !== undefined) throw untrusted('X509-19', `name constraints of an issuer: ${outside}`)
  }
}

function isSelfIssued ({ subjectDer, issuerDer }: Certificate): boolean { return Buffer.compare(subjectDer, issuerDer) === 0 }

function untrusted (requirement: string, message: string): SpiffeError { return refused('x509_chain_untrusted', requirement, message) }

function refused (code: ErrorCode, requirement: string, message: string): SpiffeError {
  return new SpiffeError(code, message, { requirement })
}

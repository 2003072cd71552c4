import { createPrivateKey, type KeyObject } from 'node:crypto'
import type { MintedX509Ca, X509CaOrder } from '../ca/upstream-authority.ts'
import { subjectKeyIdOf } from '../ca/upstream-roots.ts'
import { codeOf, SpiffeError } from '../spiffe/errors.ts'
import { trustDomainId } from '../spiffe/spiffe-id.ts'
import { createCaCertificate } from '../x509/ca-certificate.ts'
import { parseCertificateRequest } from '../x509/certificate-request.ts'
import { parseCertificate, type Certificate } from '../x509/certificate.ts'
import { decodePem } from '../x509/pem.ts'
import { signerOf } from '../x509/private-key-signer.ts'
import type { Signer } from '../x509/signer.ts'
import { isSelfIssued, trusted } from './issued-chain.ts'
import type { UpstreamHost } from './upstream-plugin.ts'

/** A CA whose private key is here. */
export interface HeldCa {
  readonly certificate: Certificate
  readonly signer: Signer
  /** The CA and those above it, without a root. */
  readonly chain: readonly Certificate[]
  readonly roots: readonly Certificate[]
}

/** Something in PEM, and where it is, for messages. */
export interface NamedPem { readonly name: string, readonly text: string }

export interface HeldCaPems {
  /** The CA first. */
  readonly certificate: NamedPem
  /** Secret. */
  readonly key: NamedPem
  /** Roots; without it the certificate is its own. */
  readonly bundle: NamedPem | undefined
  /** The key of the configuration that says where `bundle` is. */
  readonly bundleSetting: string
}

const mostCertificates = 100
/** Clocks of validators may run behind ours. */
const backdateMs = 10_000

/**
 * Reads a CA, all of it or nothing: what is half written, or not of each other, is refused.
 * @throws {SpiffeError} `upstream_invalid`; content is never quoted
 */
export function parseHeldCa ({ certificate: pem, key, bundle, bundleSetting }: HeldCaPems): HeldCa {
  const certificates = parseCertificates(pem)
  const signer = parseKey(key)
  const roots = bundle === undefined ? undefined : parseCertificates(bundle)
  const [certificate] = certificates
  if (Buffer.compare(certificate.publicKey, signer.publicKey) !== 0) {
    throw invalid(`${key.name} is not the key of the first certificate in ${pem.name}`)
  }
  if (!certificate.isCa || certificate.keyUsage?.has('keyCertSign') === false) {
    throw invalid(`the first certificate in ${pem.name} is no CA: basicConstraints or key usage say so`)
  }
  if (roots === undefined && !isSelfIssued(certificate)) {
    throw invalid(`the certificate in ${pem.name} is no root of its own: name its roots in ${bundleSetting}`)
  }
  const known = roots ?? [certificate]
  const isRoot = (candidate: Certificate) => known.some(({ raw }) => Buffer.compare(raw, candidate.raw) === 0)
  return { certificate, signer, chain: certificates.filter(candidate => !isRoot(candidate)), roots: distinct(known) }
}

/** One or more, in their order. @throws {SpiffeError} `upstream_invalid` */
export function parseCertificates ({ name, text }: NamedPem): [Certificate, ...Certificate[]] {
  try {
    const [first, ...others] = decodePem(text, 'CERTIFICATE').map(der => parseCertificate(der))
    if (first === undefined) throw invalid(`there is no certificate in ${name}`)
    if (others.length >= mostCertificates) throw invalid(`there are more than ${mostCertificates} certificates in ${name}`)
    // Roots are told by their key; it must be one that can be.
    for (const certificate of [first, ...others]) subjectKeyIdOf(certificate)
    return [first, ...others]
  } catch (error) {
    if (codeOf(error) === 'upstream_invalid' || !(error instanceof SpiffeError)) throw error
    throw new SpiffeError('upstream_invalid', `${name}: ${error.message}`, { cause: error })
  }
}

/**
 * Signs this trust domain's CA; it lives for its ttl, and no longer than any certificate above it.
 * @param where the CA is, for messages
 * @throws {SpiffeError} `csr_malformed`, `upstream_invalid`
 */
export async function mintBelow (
  { certificate, signer, chain, roots }: HeldCa, { csr, ttlSeconds }: X509CaOrder, { trustDomain, clock }: UpstreamHost, where: string
): Promise<MintedX509Ca> {
  const { publicKey, subjectDer, uriSans } = parseCertificateRequest(csr)
  if (uriSans.length !== 1 || uriSans[0] !== trustDomainId(trustDomain)) {
    throw new SpiffeError('csr_malformed', `the one URI SAN must be ${trustDomainId(trustDomain)}`)
  }
  const now = clock.now()
  const ends = [certificate, ...chain].map(({ notAfter }) => notAfter.getTime())
  const notAfter = Math.min(now.getTime() + ttlSeconds * 1000, ...ends)
  if (notAfter <= now.getTime()) throw invalid(`a certificate in ${where} was valid until ${new Date(notAfter).toISOString()}`)
  const ca = await createCaCertificate({
    trustDomain, signer: { publicKey }, subject: subjectDer, issuer: { certificate, signer },
    notBefore: new Date(now.getTime() - backdateMs), notAfter: new Date(notAfter)
  })
  return { chain: [ca, ...chain.map(({ raw }) => raw)], roots: trusted(roots) }
}

function parseKey ({ name, text }: NamedPem): Signer {
  let key: KeyObject
  try {
    key = createPrivateKey(text)
  } catch {
    // What OpenSSL says may hold parts of it.
    throw invalid(`${name} holds no private key in PEM that is whole and not encrypted`)
  }
  try {
    return signerOf(key)
  } catch (error) {
    throw new SpiffeError('upstream_invalid', `${name}: ${(error as Error).message}`, { cause: error })
  }
}

function distinct (certificates: readonly Certificate[]): Certificate[] {
  return [...new Map(certificates.map(certificate => [Buffer.from(certificate.raw).toString('latin1'), certificate])).values()]
}

function invalid (message: string): SpiffeError { return new SpiffeError('upstream_invalid', message) }

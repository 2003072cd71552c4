import type { Clock } from '../runtime/clock.ts'
import { serverIdOf } from '../spiffe/member-id.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { trustDomainId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { parseCertificate, type Certificate } from '../x509/certificate.ts'
import { findPath } from '../x509/certification-path.ts'
import { prepareLeafIssuer } from '../x509/leaf-issuer.ts'
import type { Signer } from '../x509/signer.ts'
import type { MintedX509Ca } from './upstream-authority.ts'

const longestChain = 8
const probeSeconds = 60
/** An upstream's clock may be ahead of ours, and not every one dates back. */
const longestWaitMs = 30_000
/** A CA that ends so soon would be due for the next one as it is made. */
const leastLifeSeconds = 60

export interface CheckedCa {
  readonly certificate: Certificate
  /** From the CA, which comes first, to the upstream's root, the last. */
  readonly path: readonly Certificate[]
  /** The soonest end on the path. */
  readonly notAfter: Date
}

/**
 * Checks what an upstream has signed before anything depends on it: the CA is ours, and a leaf below it verifies with the roots that came
 * along (RFC 5280 §6.1: path lengths, purposes, name constraints, strengths). Its SPIFFE ID is the trust domain's, or it has none
 * (X509-09). A CA that begins within half a minute is waited for.
 * @throws {SpiffeError} `upstream_invalid`
 */
export async function checkMinted (
  { chain, roots }: MintedX509Ca,
  { key, trustDomain, clock }: { readonly key: Signer, readonly trustDomain: TrustDomain, readonly clock: Clock }
): Promise<CheckedCa> {
  if (chain.length > longestChain) throw invalid(`a chain of more than ${longestChain} certificates`)
  try {
    const [certificate, ...others] = chain.map(der => parseCertificate(der))
    if (certificate === undefined) throw invalid('no certificate')
    if (Buffer.compare(certificate.publicKey, key.publicKey) !== 0) throw invalid('a certificate of another key than the request\'s')
    if (!certificate.isCa || certificate.keyUsage?.has('keyCertSign') !== true) throw invalid('no CA: basicConstraints or key usage say so')
    if (certificate.subjectKeyId === undefined) throw invalid('a CA without a subject key ID')
    const { uriSans } = certificate
    if (uriSans.length > 1 || (uriSans[0] !== undefined && uriSans[0] !== trustDomainId(trustDomain))) {
      throw invalid(`a CA with the URI names ${uriSans.join(', ')} where ${trustDomainId(trustDomain)} alone may be`)
    }
    await waitForStart(certificate, clock)
    const now = clock.now()
    if (certificate.notAfter.getTime() - now.getTime() < leastLifeSeconds * 1000) {
      throw invalid(`a CA that ends at ${certificate.notAfter.toISOString()}: is the upstream's own end near?`)
    }
    const leaf = parseCertificate(await prepareLeafIssuer(certificate, key).issue({
      id: serverIdOf(trustDomain), publicKey: key.publicKey, dnsNames: [],
      notBefore: now, notAfter: new Date(now.getTime() + probeSeconds * 1000)
    }))
    const bundle = { trustDomain, x509Authorities: roots, jwtAuthorities: [] }
    const [, ...path] = findPath(leaf, [certificate, ...others], bundle, now)
    return { certificate, path, notAfter: new Date(Math.min(...path.map(({ notAfter }) => notAfter.getTime()))) }
  } catch (error) {
    if (!(error instanceof SpiffeError) || error.code === 'upstream_invalid') throw error
    throw new SpiffeError('upstream_invalid', `the upstream authority gave what does not verify: ${error.message}`, {
      cause: error, requirement: error.requirement
    })
  }
}

/** Far from its start it is left to who verifies to refuse it. */
async function waitForStart ({ notBefore }: Certificate, clock: Clock): Promise<void> {
  const leftMs = () => notBefore.getTime() - clock.now().getTime()
  // A timer may be up to a millisecond early by the clock on the wall.
  for (let ms = leftMs(); ms > 0 && ms <= longestWaitMs; ms = leftMs()) await clock.sleep(ms)
}

/**
 * How many more CAs may stand below the first of a path and above a leaf; `Infinity` where nothing limits it.
 * @param path issued certificates before their issuers
 */
export function roomBelow (path: readonly Pick<Certificate, 'pathLength'>[]): number {
  return Math.min(...path.map(({ pathLength = Infinity }, above) => pathLength - above))
}

function invalid (what: string): SpiffeError { return new SpiffeError('upstream_invalid', `the upstream authority gave ${what}`) }

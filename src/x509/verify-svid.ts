import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { trustDomainOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { parseCertificate, type Certificate } from './certificate.ts'
import { findPath } from './certification-path.ts'
import { checkLeaf } from './leaf-profile.ts'

/** An X509-SVID whose path was validated up to the bundle of its own trust domain. */
export interface VerifiedX509Svid {
  readonly id: SpiffeId
  readonly leaf: Certificate
  /** DER, as it was presented: leaf first. */
  readonly chain: readonly Uint8Array[]
  /** The soonest end of a certificate on the path, the authority's included. */
  readonly expiresAt: Date
}

export interface VerifyX509SvidOptions {
  /** Gives the bundle of exactly this trust domain (X509-21, TDB-03). */
  readonly bundleOf: (trustDomain: TrustDomain) => Bundle | undefined
  readonly at: Date
}

const maxChainLength = 16

/**
 * Validates an X509-SVID: the leaf's profile (X509-SVID §5.2) and the path of RFC 5280 (§5.1) to an authority of the trust
 * domain in the leaf's ID, tainted ones included.
 * @param chain DER, leaf first; what follows may be in any order, and what is not needed is ignored (AMB-25)
 * @throws {SpiffeError} `x509_svid_invalid`, `x509_chain_untrusted`, `x509_svid_expired` (also: not valid yet), each with the number of
 *   the broken requirement
 */
export function verifyX509Svid (chain: readonly Uint8Array[], { bundleOf, at }: VerifyX509SvidOptions): VerifiedX509Svid {
  const [leaf, ...others] = parseChain(chain)
  const id = checkLeaf(leaf)
  const trustDomain = trustDomainOf(id)
  const path = findPath(leaf, others, bundleFor(trustDomain, bundleOf), at)
  return { id, leaf, chain, expiresAt: new Date(Math.min(...path.map(({ notAfter }) => notAfter.getTime()))) }
}

function parseChain (chain: readonly Uint8Array[]): [Certificate, ...Certificate[]] {
  if (chain.length > maxChainLength) throw invalid('X509-19', `more than ${maxChainLength} certificates`)
  const [leaf, ...others] = chain.map((der, index) => {
    try {
      return parseCertificate(der)
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      throw new SpiffeError('x509_svid_invalid', `certificate ${index + 1} of the chain: ${error.message}`, {
        cause: error, requirement: 'X509-19'
      })
    }
  })
  if (leaf === undefined) throw invalid('X509-19', 'no certificate')
  return [leaf, ...others]
}

function bundleFor (trustDomain: TrustDomain, bundleOf: VerifyX509SvidOptions['bundleOf']): Bundle {
  const bundle = bundleOf(trustDomain)
  if (bundle === undefined) throw untrusted('X509-21', `there is no bundle of trust domain ${trustDomain}`)
  if (bundle.trustDomain !== trustDomain) throw untrusted('TDB-03', `the bundle of ${bundle.trustDomain} is not for ${trustDomain}`)
  if (bundle.x509Authorities.length === 0) throw untrusted('X509-26', `the bundle of ${trustDomain} has no X.509 authority`)
  return bundle
}

function invalid (requirement: string, message: string): SpiffeError {
  return new SpiffeError('x509_svid_invalid', message, { requirement })
}

function untrusted (requirement: string, message: string): SpiffeError {
  return new SpiffeError('x509_chain_untrusted', message, { requirement })
}

import type { MintedX509Ca } from '../ca/upstream-authority.ts'
import type { X509Authority } from '../spiffe/bundle.ts'
import type { Certificate } from '../x509/certificate.ts'

/**
 * Parts what a PKI gave with a CA that it signed into chain and roots: those that issued themselves are roots, and where there is none,
 * the highest that it knows.
 * @param above the CA's issuer first
 */
export function chainAndRoots (ca: Certificate, above: readonly [Certificate, ...Certificate[]]): MintedX509Ca {
  const selfIssued = above.filter(isSelfIssued)
  const roots = selfIssued.length > 0 ? selfIssued : above.slice(-1)
  return { chain: [ca, ...above.filter(candidate => !roots.includes(candidate))].map(({ raw }) => raw), roots: trusted(roots) }
}

export function isSelfIssued ({ subjectDer, issuerDer }: Certificate): boolean { return Buffer.compare(subjectDer, issuerDer) === 0 }

export function trusted (roots: readonly Certificate[]): X509Authority[] {
  return roots.map(({ raw }) => ({ certificate: raw, tainted: false }))
}

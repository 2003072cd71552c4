import { createPrivateKey, createPublicKey } from 'node:crypto'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseSpiffeId, trustDomainOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { X509SVID, X509SVIDResponse } from '../wire/generated/workload.ts'
import { parseCertificate, splitCertificates, type Certificate } from '../x509/certificate.ts'
import { checkLeaf } from '../x509/leaf-profile.ts'

/** One X509-SVID with all that belongs to it. All certificates are DER. */
export interface X509Material {
  readonly id: SpiffeId
  readonly hint: string
  /** Leaf first. */
  readonly chain: readonly Uint8Array[]
  readonly leaf: Certificate
  /** PKCS#8, DER. Secret. */
  readonly privateKey: Uint8Array
  readonly authorities: readonly Uint8Array[]
  readonly federated: ReadonlyMap<TrustDomain, readonly Uint8Array[]>
}

/**
 * Chooses the SVID and looks whether it can be written: a certificate beside a key that is not its own would stop whatever reads them.
 * @param hint of the entry; without one the first SVID is taken, which is the default (WLAPI-35)
 * @throws {SpiffeError} `hint_not_found`, `x509_svid_invalid`, `certificate_malformed`
 */
export function readX509Material ({ svids, federatedBundles }: X509SVIDResponse, hint: string | undefined): X509Material {
  const svid = chooseByHint(svids, hint)
  const chain = splitCertificates(svid.x509Svid)
  const [first] = chain
  if (first === undefined) throw new SpiffeError('x509_svid_invalid', 'the agent sent an SVID without a certificate')
  const leaf = parseCertificate(first)
  const id = checkLeaf(leaf)
  if (id !== svid.spiffeId) throw new SpiffeError('x509_svid_invalid', `the agent sent a certificate of ${id} as one of ${svid.spiffeId}`)
  checkKey(svid, leaf)
  const federated = Object.entries(federatedBundles).map(([name, bundle]) =>
    [trustDomainOf(parseSpiffeId(name)), splitCertificates(bundle)] as const)
  return {
    id, hint: svid.hint, chain, leaf, privateKey: svid.x509SvidKey, authorities: splitCertificates(svid.bundle),
    federated: new Map(federated.toSorted(([a], [b]) => a < b ? -1 : 1))
  }
}

/** The same rule for tokens. @throws {SpiffeError} `hint_not_found` */
export function chooseByHint<T extends { readonly spiffeId: string, readonly hint: string }> (
  svids: readonly T[], hint: string | undefined
): T {
  const chosen = hint === undefined ? svids[0] : svids.find(svid => svid.hint === hint)
  if (chosen !== undefined) return chosen
  const there = svids.map(({ spiffeId, hint }) => `${spiffeId} (${hint === '' ? 'without a hint' : `hint ${JSON.stringify(hint)}`})`)
  throw new SpiffeError('hint_not_found', hint === undefined ? 'the agent sent no SVID'
    : `no SVID has the hint ${JSON.stringify(hint)}; there is ${there.length === 0 ? 'none' : there.join(', ')}`)
}

function checkKey ({ x509SvidKey, spiffeId }: X509SVID, leaf: Certificate): void {
  let spki: Buffer
  try {
    const key = createPrivateKey({ key: Buffer.from(x509SvidKey), format: 'der', type: 'pkcs8' })
    spki = createPublicKey(key).export({ format: 'der', type: 'spki' })
  } catch (cause) {
    // The lower message could quote the key.
    throw new SpiffeError('x509_svid_invalid', `the private key of ${spiffeId} is no PKCS#8`, { cause: (cause as Error).name })
  }
  if (!spki.equals(leaf.publicKey)) throw new SpiffeError('x509_svid_invalid', `the private key of ${spiffeId} is not its certificate's`)
}

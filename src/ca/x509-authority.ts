import { createHash } from 'node:crypto'
import type { Bundle } from '../spiffe/bundle.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { appendAuthorities, removeX509Authority, taintX509Authority } from '../spiffe/bundle-change.ts'
import { createCaCertificate, type CaSubject } from '../x509/ca-certificate.ts'
import { parseCertificate, type Certificate } from '../x509/certificate.ts'
import type { KeyType } from '../x509/key-type.ts'
import { prepareLeafIssuer, type LeafIssuer } from '../x509/leaf-issuer.ts'
import type { Signer } from '../x509/signer.ts'
import type { AuthorityRecord } from './authority-record.ts'
import type { AuthorityProfile } from './authority-slots.ts'

/** Clocks of validators may run behind ours. */
export const backdateSeconds = 10

export interface X509AuthorityOptions {
  readonly trustDomain: TrustDomain
  readonly keyType: KeyType
  readonly lifetimeSeconds: number
  readonly subject: CaSubject
}

/** A root at hand: it signs leaves, or intermediates that do. */
export interface HeldRoot {
  readonly leafIssuer: LeafIssuer
  readonly certificate: Certificate
  readonly signer: Signer
}

/** A self-signed CA per slot (ID-16, ID-17; profile of the CA certificate: `createCaCertificate`). */
export function x509Profile ({ trustDomain, keyType, lifetimeSeconds, subject }: X509AuthorityOptions): AuthorityProfile<HeldRoot> {
  return {
    kind: 'x509',
    keyType,
    lifetimeSeconds,
    keyId: slot => `x509-CA-${slot}`,
    async create (key, slot, now) {
      const notBefore = new Date(now.getTime() - backdateSeconds * 1000)
      const notAfter = new Date(now.getTime() + lifetimeSeconds * 1000)
      const certificate = await createCaCertificate({ trustDomain, signer: key, subject, notBefore, notAfter })
      const { subjectKeyId } = parseCertificate(certificate)
      const authorityId = Buffer.from(subjectKeyId ?? createHash('sha1').update(key.publicKey).digest()).toString('hex')
      return { authorityId, kind: 'x509', slot, state: 'prepared', certificate, publicKey: key.publicKey, notBefore, notAfter }
    },
    hold (record, signer) {
      const certificate = parseCertificate(certificateOf(record))
      return { leafIssuer: prepareLeafIssuer(certificate, signer), certificate, signer }
    },
    publish: (bundle: Bundle, record) => appendAuthorities(bundle, {
      x509Authorities: [{ certificate: certificateOf(record), tainted: false }]
    }),
    taint: (bundle, record) => taintX509Authority(bundle, certificateOf(record)),
    withdraw: (bundle, record) => removeX509Authority(bundle, certificateOf(record))
  }
}

function certificateOf (record: AuthorityRecord): Uint8Array {
  if (record.certificate === undefined) throw new Error(`X.509 authority ${record.authorityId} has no certificate`)
  return record.certificate
}

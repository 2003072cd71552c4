import { createHash } from 'node:crypto'
import type { Bundle } from '../spiffe/bundle.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import { appendAuthorities } from '../spiffe/bundle-change.ts'
import { createCaCertificate, type CaSubject } from '../x509/ca-certificate.ts'
import { parseCertificate } from '../x509/certificate.ts'
import type { KeyType } from '../x509/key-type.ts'
import { prepareLeafIssuer, type LeafIssuer } from '../x509/leaf-issuer.ts'
import type { AuthorityProfile } from './authority-slots.ts'

/** Clocks of validators may run behind ours. */
export const backdateSeconds = 10

export interface X509AuthorityOptions {
  readonly trustDomain: TrustDomain
  readonly keyType: KeyType
  readonly lifetimeSeconds: number
  readonly subject: CaSubject
}

/** A self-signed CA per slot (ID-16, ID-17; profile of the CA certificate: `createCaCertificate`). */
export function x509Profile ({ trustDomain, keyType, lifetimeSeconds, subject }: X509AuthorityOptions): AuthorityProfile<LeafIssuer> {
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
    hold: (record, key) => prepareLeafIssuer(parseCertificate(record.certificate as Uint8Array), key),
    publish: (bundle: Bundle, record) => appendAuthorities(bundle, {
      x509Authorities: [{ certificate: record.certificate as Uint8Array, tainted: false }]
    })
  }
}

import 'reflect-metadata'
import { SubjectAlternativeNameExtension, X509CertificateGenerator } from '@peculiar/x509'

/** One in PEM, self-signed, with names of several kinds. */
export async function someCertificate (): Promise<string> {
  const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify'])
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: '0102030405060708090a', name: 'CN=shop, O=Example, C=DE', keys, signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    notBefore: new Date('2026-11-01T00:00:00Z'), notAfter: new Date('2026-12-01T00:00:00Z'),
    extensions: [new SubjectAlternativeNameExtension([{ type: 'url', value: 'spiffe://example.org/shop' },
      { type: 'dns', value: 'shop.example' }])]
  })
  return certificate.toString('pem')
}

import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { Bundle } from '../spiffe/bundle.ts'
import type { X509Svid } from '../spiffe/svid.ts'
import { parseCertificate } from '../x509/certificate.ts'

/**
 * What Envoy would refuse, or end over, found before it is sent (only expiry is left to the moment of sending).
 * @returns the reason, or `undefined` for an SVID that is fit to be sent
 */
export function faultOfSvid (svid: X509Svid): string | undefined {
  const [leafDer] = svid.chain
  if (leafDer === undefined) return 'the certificate chain is empty'
  try {
    const [leaf] = svid.chain.map(parseCertificate)
    if (leaf?.uriSans.length !== 1 || leaf.uriSans[0] !== svid.id) return 'the URI SAN of the certificate is not the SPIFFE ID'
    if (leaf.notAfter.getTime() !== svid.notAfter.getTime()) return 'the certificate ends at another time than its record says'
  } catch (error) {
    return `the certificate chain does not parse: ${(error as Error).message}`
  }
  try {
    const key = createPrivateKey({ key: Buffer.from(svid.privateKey), format: 'der', type: 'pkcs8' })
    return new X509Certificate(leafDer).checkPrivateKey(key) ? undefined : 'the private key does not match the certificate'
  } catch {
    // Not the lower message: it is about a secret.
    return 'the private key does not parse'
  }
}

/** @returns the reason why no validation context can be made of the bundle */
export function faultOfBundle (bundle: Bundle): string | undefined {
  if (bundle.x509Authorities.length === 0) return 'the bundle has no X.509 authority'
  try {
    for (const { certificate } of bundle.x509Authorities) {
      parseCertificate(certificate)
      void new X509Certificate(certificate)
    }
    return undefined
  } catch (error) {
    return `the bundle does not parse: ${(error as Error).message}`
  }
}

import { encodeCaSubject } from '../../src/x509/ca-certificate.ts'
import { signCertificateRequest } from '../../src/x509/certificate-request.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import { makeTestKey } from '../fakes/authority.ts'

/** Of the CA that is ordered. */
export const key = signerOf(makeTestKey())

/** @param commonName in the subject, beside country and organization */
export function csrOf (commonName?: string): Promise<Uint8Array> {
  return signCertificateRequest(key, {
    subjectDer: encodeCaSubject({ country: ['NL'], organization: ['Example'], ...commonName && { commonName } }, Buffer.of(7)),
    uriSans: ['spiffe://example.org']
  })
}

/** What a server of example.org asks an upstream authority for. */
export const order = { csr: await csrOf(), ttlSeconds: 3600 }

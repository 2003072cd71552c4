import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import {
  BasicConstraintsExtension, KeyUsageFlags, KeyUsagesExtension, SubjectAlternativeNameExtension, X509CertificateGenerator
} from '@peculiar/x509'
import { encodePem } from '../../src/x509/pem.ts'

/** In PEM. */
export interface WebCertificate { readonly cert: string, readonly key: string }

export interface WebCa {
  /** PEM. */
  readonly root: string
  /** For this host, one day long, unless told otherwise. */
  certify (options?: WebCertificateOptions): Promise<WebCertificate>
}

export interface WebCertificateOptions { readonly dns?: readonly string[], readonly ips?: readonly string[], readonly notAfter?: Date }

const algorithm = { name: 'ECDSA', namedCurve: 'P-256' } as const
const signingAlgorithm = { name: 'ECDSA', hash: 'SHA-256' } as const
const makeKeys = () => webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])

/** A CA of the web's kind: it certifies names of hosts. */
export async function createWebCa (): Promise<WebCa> {
  const keys = await makeKeys()
  const dayAgo = new Date(Date.now() - 86_400_000)
  const inDay = new Date(Date.now() + 86_400_000)
  const ca = await X509CertificateGenerator.createSelfSigned({
    name: `CN=Web CA ${Math.random()}`, keys, signingAlgorithm, notBefore: dayAgo, notAfter: inDay,
    extensions: [new BasicConstraintsExtension(true, undefined, true), new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true)]
  })
  return {
    root: ca.toString('pem'),
    async certify ({ dns = ['localhost'], ips = ['127.0.0.1', '::1'], notAfter = inDay } = {}) {
      const { publicKey, privateKey } = await makeKeys()
      const certificate = await X509CertificateGenerator.create({
        subject: 'CN=endpoint', issuer: ca.subject, publicKey, signingKey: keys.privateKey, signingAlgorithm, notBefore: dayAgo, notAfter,
        extensions: [new SubjectAlternativeNameExtension([
          ...dns.map(value => ({ type: 'dns' as const, value })), ...ips.map(value => ({ type: 'ip' as const, value }))
        ])]
      })
      const key = encodePem('PRIVATE KEY', new Uint8Array(await webcrypto.subtle.exportKey('pkcs8', privateKey)))
      return { cert: `${certificate.toString('pem')}\n`, key }
    }
  }
}

import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import {
  BasicConstraintsExtension, type GeneralNameType, KeyUsageFlags, KeyUsagesExtension, SubjectAlternativeNameExtension, type X509Certificate,
  X509CertificateGenerator
} from '@peculiar/x509'
import { encodePem } from '../../src/x509/pem.ts'

export type MachineKey = 'P-256' | 'P-384' | 'P-521' | 'RSA' | 'Ed25519'

export interface MachineCertificateOptions {
  /** In the form `CN=…,O=…`. */
  readonly name?: string
  readonly key?: MachineKey
  readonly rsaBits?: number
  readonly sans?: readonly { readonly type: GeneralNameType, readonly value: string }[]
  readonly usage?: 'digitalSignature' | 'keyEncipherment'
  readonly notAfter?: Date
}

/** In PEM. */
export interface MachineCertificate { readonly certificate: string, readonly key: string }

const day = 86_400_000
const signingAlgorithm = { name: 'ECDSA', hash: 'SHA-256' } as const

/** A company's CA, as it certifies its machines; and CAs below it. */
export class MachineCa {
  readonly certificate: X509Certificate
  readonly #keys: webcrypto.CryptoKeyPair

  private constructor (certificate: X509Certificate, keys: webcrypto.CryptoKeyPair) {
    this.certificate = certificate
    this.#keys = keys
  }

  static async create (name: string): Promise<MachineCa> {
    const keys = await makeKeys('P-256')
    return new MachineCa(await X509CertificateGenerator.createSelfSigned({
      name, keys, signingAlgorithm, ...times(), extensions: ofCa
    }), keys)
  }

  get pem (): string { return `${this.certificate.toString('pem')}\n` }

  /** Its private key: PKCS#8 in PEM. */
  async keyPem (): Promise<string> {
    return encodePem('PRIVATE KEY', new Uint8Array(await webcrypto.subtle.exportKey('pkcs8', this.#keys.privateKey)))
  }

  async intermediate (subject: string): Promise<MachineCa> {
    const keys = await makeKeys('P-256')
    return new MachineCa(await X509CertificateGenerator.create({
      subject, issuer: this.certificate.subject, publicKey: keys.publicKey, signingKey: this.#keys.privateKey, signingAlgorithm, ...times(),
      extensions: ofCa
    }), keys)
  }

  async certify (
    { name = 'CN=host-1', key = 'P-256', rsaBits, sans = [], usage = 'digitalSignature', notAfter }: MachineCertificateOptions = {}
  ): Promise<MachineCertificate> {
    const { publicKey, privateKey } = await makeKeys(key, rsaBits)
    const certificate = await X509CertificateGenerator.create({
      subject: name, issuer: this.certificate.subject, publicKey, signingKey: this.#keys.privateKey, signingAlgorithm, ...times(notAfter),
      extensions: [
        new KeyUsagesExtension(KeyUsageFlags[usage], true), ...sans.length === 0 ? [] : [new SubjectAlternativeNameExtension([...sans])]
      ]
    })
    return {
      certificate: `${certificate.toString('pem')}\n`,
      key: encodePem('PRIVATE KEY', new Uint8Array(await webcrypto.subtle.exportKey('pkcs8', privateKey)))
    }
  }
}

const ofCa = [new BasicConstraintsExtension(true, undefined, true), new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true)]

function times (notAfter = new Date(Date.now() + day)) {
  return { notBefore: new Date(Math.min(Date.now(), notAfter.getTime()) - day), notAfter }
}

async function makeKeys (kind: MachineKey, rsaBits = 2048): Promise<webcrypto.CryptoKeyPair> {
  if (kind === 'Ed25519') return await webcrypto.subtle.generateKey('Ed25519', true, ['sign', 'verify']) as webcrypto.CryptoKeyPair
  const algorithm = kind === 'RSA'
    ? { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', modulusLength: rsaBits, publicExponent: Uint8Array.of(1, 0, 1) }
    : { name: 'ECDSA', namedCurve: kind }
  return await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
}

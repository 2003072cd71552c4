import { hash, randomBytes } from 'node:crypto'
import { trustDomainId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Certificate } from './certificate.ts'
import { keyUsages } from './certificate-extensions.ts'
import { encodeTime } from './der-time.ts'
import {
  encodeBitString, encodeBoolean, encodeContext, encodeContextPrimitive, encodeNamedBits, encodeOctetString, encodeSequence, encodeUnsigned
} from './der-writer.ts'
import { encodeExtension } from './encode-extension.ts'
import { encodeUri } from './general-names.ts'
import { encodeName } from './name.ts'
import { oid } from './oid.ts'
import { parsePublicKey } from './public-key.ts'
import { algorithmOfKeyType } from './signature-algorithm.ts'
import type { Signer } from './signer.ts'

export interface CaSubject {
  readonly country?: readonly string[]
  readonly organization?: readonly string[]
  readonly organizationalUnit?: readonly string[]
  /** Left out when empty. */
  readonly commonName?: string
  /** The subject's serialNumber attribute; the certificate's own serial number in decimal by default. */
  readonly serialNumber?: string
}

export interface CaCertificateOptions {
  readonly trustDomain: TrustDomain
  /** Whose key is certified; it signs as well unless there is an issuer. */
  readonly signer: Signer | CertifiedKey
  readonly notBefore: Date
  readonly notAfter: Date
  /** SPIRE's by default: C=US, O=SPIFFE. Or a Name in DER. */
  readonly subject?: CaSubject | Uint8Array
  /** How many CA certificates may stand between this one and a leaf; no limit by default. */
  readonly pathLength?: number
  /** Extensions in DER, one after the other, of none that is written anyway. */
  readonly extensions?: Uint8Array | undefined
  /** Who signs an intermediate; self-signed without (ID-17, X509-24). */
  readonly issuer?: { readonly certificate: Certificate, readonly signer: Signer }
}

/** A key of which another one holds the private half. */
export interface CertifiedKey {
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  readonly sign?: never
}

const defaultSubject: CaSubject = { country: ['US'], organization: ['SPIFFE'] }

/**
 * Makes a signing certificate that is itself an SVID of its trust domain (ID-15, ID-16; X509-07 to -09, -11, -13, -14, -17).
 * @returns DER
 */
export async function createCaCertificate (options: CaCertificateOptions): Promise<Uint8Array> {
  const { signer, issuer, notBefore, notAfter } = options
  const signing = issuer?.signer ?? signer
  if (signing.sign === undefined) throw new TypeError('a key that is only certified signs nothing')
  const algorithm = algorithmOfKeyType[signing.type]
  const serial = randomBytes(16)
  serial[0]! |= 1
  const subject = encodeCaSubject(options.subject ?? defaultSubject, serial)
  const tbs = encodeSequence(
    encodeContext(0, encodeUnsigned(Buffer.of(2))),
    encodeUnsigned(serial),
    algorithm,
    issuer?.certificate.subjectDer ?? subject,
    encodeSequence(encodeTime(notBefore), encodeTime(notAfter)),
    subject,
    signer.publicKey,
    encodeContext(3, encodeSequence(...encodeExtensions(options)))
  )
  return encodeSequence(tbs, algorithm, encodeBitString(await signing.sign(tbs, 'der')))
}

function encodeExtensions ({ trustDomain, signer, issuer, pathLength, extensions }: CaCertificateOptions): Uint8Array[] {
  const usage = ['keyCertSign', 'cRLSign'] as const
  const limit = pathLength === undefined ? [] : [encodeUnsigned(Buffer.of(pathLength))]
  const authorityKeyId = issuer?.certificate.subjectKeyId
  return [
    encodeExtension(oid.keyUsage, true, encodeNamedBits(usage.map(name => keyUsages.indexOf(name)))),
    encodeExtension(oid.basicConstraints, true, encodeSequence(encodeBoolean(true), ...limit)),
    encodeExtension(oid.subjectKeyIdentifier, false, encodeOctetString(hash('sha1', parsePublicKey(signer.publicKey).keyBits, 'buffer'))),
    ...authorityKeyId === undefined
      ? []
      : [encodeExtension(oid.authorityKeyIdentifier, false, encodeSequence(encodeContextPrimitive(0, authorityKeyId)))],
    encodeExtension(oid.subjectAltName, false, encodeSequence(encodeUri(trustDomainId(trustDomain)))),
    ...extensions === undefined ? [] : [extensions]
  ]
}

/** @param serial the certificate's serial number, or as good as one: it tells CAs of one subject apart */
export function encodeCaSubject (subject: CaSubject | Uint8Array, serial: Uint8Array): Uint8Array {
  if (subject instanceof Uint8Array) return subject
  const decimal = BigInt(`0x${Buffer.from(serial).toString('hex')}`).toString()
  return encodeName([
    ...(subject.country ?? []).map(value => [oid.country, value] as const),
    ...(subject.organization ?? []).map(value => [oid.organization, value] as const),
    ...(subject.organizationalUnit ?? []).map(value => [oid.organizationalUnit, value] as const),
    ...subject.commonName === undefined || subject.commonName === '' ? [] : [[oid.commonName, subject.commonName] as const],
    [oid.serialNumber, subject.serialNumber ?? decimal]
  ])
}

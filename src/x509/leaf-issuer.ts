import { hash } from 'node:crypto'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseSpiffeId, pathOf, trustDomainOf, type SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Certificate } from './certificate.ts'
import { keyUsages, type KeyUsage } from './certificate-extensions.ts'
import { DerError } from './der-reader.ts'
import { encodeTime } from './der-time.ts'
import {
  encodeBitString, encodeBoolean, encodeContext, encodeContextPrimitive, encodeNamedBits, encodeOctetString, encodeOid, encodeSequence,
  encodeUnsigned
} from './der-writer.ts'
import { encodeExtension } from './encode-extension.ts'
import { encodeDnsName, encodeUri } from './general-names.ts'
import { encodeName, parseName } from './name.ts'
import { oid } from './oid.ts'
import { parseSubjectKey } from './public-key.ts'
import { randomSerial } from './random-serial.ts'
import { algorithmOfKeyType } from './signature-algorithm.ts'
import type { Signer } from './signer.ts'

export interface LeafRequest {
  readonly id: SpiffeId
  /** SubjectPublicKeyInfo, DER; its owner has proved possession already. */
  readonly publicKey: Uint8Array
  readonly dnsNames: readonly string[]
  /** A Name in DER, or SPIRE's default: C=US, O=SPIRE and the first DNS name as CN. */
  readonly subject?: 'default' | Uint8Array
  readonly notBefore: Date
  /** At most the issuer's own; fractions of a second are cut off. */
  readonly notAfter: Date
  /** Up to 20 bytes, big endian, not zero; 128 random bits by default. */
  readonly serialNumber?: Uint8Array
  /** Extensions in DER, one after the other, of none that is written anyway. */
  readonly extensions?: Uint8Array
}

/** Signs X509-SVIDs. Both forms throw what `prepareLeafIssuer` describes. */
export interface LeafIssuer {
  readonly issuer: Certificate
  /** @returns DER */
  issue (request: LeafRequest): Promise<Uint8Array>
  /** On this thread; absent when the key is remote. */
  issueSync? (request: LeafRequest): Uint8Array
}

/** ub-common-name (RFC 5280 appendix A.1). */
const maxCommonName = 64

/**
 * Compiles the parts that all leaves of one issuer share, so that issuing one costs little more than its signature. The profile is
 * SPIRE's (X509-04, -05, -11, -13, -15, -16, -18). Issuing throws a `SpiffeError`: `key_unsupported`; `argument_invalid` for an ill-formed
 * subject, DNS name, serial number, or a life that is empty or longer than the issuer's; `spiffe_id_not_allowed` for an ID without a
 * path or of another trust domain than the issuer's.
 * @throws {Error} when this is no CA certificate or the key is not the signer's: a bug, or a mixed-up key file
 */
export function prepareLeafIssuer (issuer: Certificate, signer: Signer): LeafIssuer {
  if (!issuer.isCa || issuer.keyUsage?.has('keyCertSign') === false) throw new Error('the issuer is no CA certificate (X509-07)')
  if (Buffer.compare(issuer.publicKey, signer.publicKey) !== 0) throw new Error('the signer has another key than the issuer')
  const template = compile(issuer, signer)
  const prepared: LeafIssuer = {
    issuer,
    async issue (request) {
      const tbs = fill(template, request)
      return seal(tbs, template, await signer.sign(tbs, 'der'))
    }
  }
  if (signer.signSync === undefined) return prepared
  const signSync = signer.signSync.bind(signer)
  return {
    ...prepared,
    issueSync (request) {
      const tbs = fill(template, request)
      return seal(tbs, template, signSync(tbs, 'der'))
    }
  }
}

interface Template {
  readonly issuer: Certificate
  /** Whom the issuer signs for, if its own ID says so. */
  readonly trustDomain: TrustDomain | undefined
  readonly algorithm: Uint8Array
  readonly algorithmAndIssuer: Uint8Array
  readonly authorityKeyId: Uint8Array
}

const version3 = encodeContext(0, encodeUnsigned(Buffer.of(2)))
const subjectCountryOrganization = [[oid.country, 'US'], [oid.organization, 'SPIRE']] as const
const defaultSubject = encodeName(subjectCountryOrganization)

const leafUsage: readonly KeyUsage[] = ['digitalSignature', 'keyEncipherment', 'keyAgreement']
const fixedExtensions = Buffer.concat([
  encodeExtension(oid.keyUsage, true, encodeNamedBits(leafUsage.map(usage => keyUsages.indexOf(usage)))),
  encodeExtension(oid.extendedKeyUsage, false, encodeSequence(encodeOid(oid.serverAuth), encodeOid(oid.clientAuth))),
  encodeExtension(oid.basicConstraints, true, encodeSequence())
])
const subjectKeyIdOid = encodeOid(oid.subjectKeyIdentifier)
const subjectAltNameOid = encodeOid(oid.subjectAltName)
const critical = encodeBoolean(true)
const noExtensions = Buffer.alloc(0)

function compile (issuer: Certificate, signer: Signer): Template {
  const algorithm = algorithmOfKeyType[signer.type]
  const [uri] = issuer.uriSans
  return {
    issuer,
    trustDomain: uri?.startsWith('spiffe://') === true ? trustDomainOf(parseSpiffeId(uri)) : undefined,
    algorithm,
    algorithmAndIssuer: Buffer.concat([algorithm, issuer.subjectDer]),
    authorityKeyId: issuer.subjectKeyId === undefined
      ? Buffer.alloc(0)
      : encodeExtension(oid.authorityKeyIdentifier, false, encodeSequence(encodeContextPrimitive(0, issuer.subjectKeyId)))
  }
}

/** The part to be signed. */
function fill (template: Template, request: LeafRequest): Uint8Array {
  const { id, dnsNames, notBefore, publicKey, extensions = noExtensions } = request
  checkId(id, template.trustDomain)
  const notAfter = checkLife(request, template.issuer)
  const { keyBits } = parseSubjectKey(publicKey)
  const subject = subjectOf(request)
  const names = encodeOctetString(encodeSequence(encodeUri(id), ...dnsNames.map(encodeCheckedDnsName)))
  return encodeSequence(
    version3,
    serialOf(request),
    template.algorithmAndIssuer,
    encodeSequence(encodeTime(notBefore), encodeTime(notAfter)),
    subject,
    publicKey,
    encodeContext(3, encodeSequence(
      fixedExtensions,
      encodeSequence(subjectKeyIdOid, encodeOctetString(encodeOctetString(hash('sha1', keyBits, 'buffer')))),
      template.authorityKeyId,
      isEmptyName(subject) ? encodeSequence(subjectAltNameOid, critical, names) : encodeSequence(subjectAltNameOid, names),
      extensions
    ))
  )
}

function seal (tbs: Uint8Array, { algorithm }: Template, signature: Uint8Array): Uint8Array {
  return encodeSequence(tbs, algorithm, encodeBitString(signature))
}

function checkId (id: SpiffeId, trustDomain: TrustDomain | undefined): void {
  if (pathOf(id) === '') throw new SpiffeError('spiffe_id_not_allowed', `${id} has no path`, { requirement: 'X509-04' })
  if (trustDomain !== undefined && trustDomainOf(id) !== trustDomain) {
    throw new SpiffeError('spiffe_id_not_allowed', `${id} is not in ${trustDomain}, which the issuer signs for`, { requirement: 'ID-20' })
  }
}

function checkLife ({ notBefore, notAfter }: LeafRequest, issuer: Certificate): Date {
  const end = new Date(Math.floor(notAfter.getTime() / 1000) * 1000)
  if (!(end > notBefore)) throw invalid('an X509-SVID that ends before it begins')
  if (end > issuer.notAfter) throw invalid(`an X509-SVID until ${end.toISOString()}, beyond its issuer's ${issuer.notAfter.toISOString()},`)
  return end
}

function serialOf ({ serialNumber }: LeafRequest): Uint8Array {
  if (serialNumber === undefined) return encodeUnsigned(randomSerial())
  if (serialNumber.every(byte => byte === 0)) throw invalid('a serial number of zero')
  const encoded = encodeUnsigned(serialNumber)
  if (encoded.length > 2 + 20) throw invalid('a serial number longer than 20 bytes')
  return encoded
}

function subjectOf ({ subject = 'default', dnsNames }: LeafRequest): Uint8Array {
  if (subject !== 'default') {
    try {
      parseName(subject)
      return subject
    } catch (error) {
      if (error instanceof DerError) throw invalid(`a subject that is no Name in DER: ${error.message}`)
      throw error
    }
  }
  return defaultLeafSubject(dnsNames)
}

/** SPIRE's: C=US, O=SPIRE and the first DNS name as CN. @returns a Name in DER */
export function defaultLeafSubject ([first]: readonly string[]): Uint8Array {
  if (first === undefined || first.length > maxCommonName) return defaultSubject
  return encodeName([...subjectCountryOrganization, [oid.commonName, first]])
}

function encodeCheckedDnsName (name: string): Buffer {
  if (!/^[!-~]{1,253}$/.test(name)) throw invalid('a DNS name that is empty, longer than 253 bytes, or not in printable ASCII')
  return encodeDnsName(name)
}

function isEmptyName (name: Uint8Array): boolean { return name.length === 2 }

function invalid (what: string): SpiffeError { return new SpiffeError('argument_invalid', `${what} is not issued`) }

import { createPublicKey, sign, type KeyObject } from 'node:crypto'
import { SpiffeError } from '../spiffe/errors.ts'
import { readExtensions } from './certificate-extensions.ts'
import { DerError, DerReader, noContent } from './der-reader.ts'
import { contextTag, derTag } from './der-tag.ts'
import { encodeBitString, encodeContext, encodeOid, encodeSequence, encodeSet, encodeUnsigned } from './der-writer.ts'
import { encodeExtension } from './encode-extension.ts'
import { encodeDnsName, encodeUri, noNames, type GeneralNames } from './general-names.ts'
import { emptyName, parseName } from './name.ts'
import { oid } from './oid.ts'
import { parseSubjectKey } from './public-key.ts'
import type { Signer } from './signer.ts'
import { algorithmOfKeyType, algorithmOid, findSignatureAlgorithm, verifySignature } from './signature-algorithm.ts'

/** What a PKCS #10 request asks for; whoever sent it held the private key. Bytes are views of the input. */
export interface CertificateRequest {
  /** SubjectPublicKeyInfo, DER; of an accepted kind and size. */
  readonly publicKey: Uint8Array
  /** Name, DER; `30 00` when empty. */
  readonly subjectDer: Uint8Array
  readonly uriSans: readonly string[]
  readonly dnsSans: readonly string[]
}

const maxBytes = 64 * 1024

/**
 * Reads a request (RFC 2986) in DER and checks its key and its signature.
 * @throws {SpiffeError} `csr_malformed`, `key_unsupported`
 */
export function parseCertificateRequest (der: Uint8Array): CertificateRequest {
  if (der.length > maxBytes) throw malformed(`longer than ${maxBytes} bytes`)
  try {
    return read(der)
  } catch (error) {
    if (error instanceof DerError) throw malformed(error.message, error)
    throw error
  }
}

export interface RequestedNames {
  /** Name, DER; empty by default. */
  readonly subjectDer?: Uint8Array
  readonly uriSans?: readonly string[]
  readonly dnsSans?: readonly string[]
  /** Further extensions in DER, one after the other. */
  readonly extensions?: Uint8Array | undefined
}

/** Makes a request in DER, signed with SHA-384 for P-384 and SHA-256 otherwise. @param privateKey P-256, P-384 or RSA */
export function createCertificateRequest (privateKey: KeyObject, names: RequestedNames = {}): Uint8Array {
  const info = encodeInfo(createPublicKey(privateKey).export({ format: 'der', type: 'spki' }), names)
  const isP384 = privateKey.asymmetricKeyDetails?.namedCurve === 'secp384r1'
  const algorithm = algorithmOfKeyType[isP384 ? 'ec-p384' : privateKey.asymmetricKeyType === 'ec' ? 'ec-p256' : 'rsa-2048']
  return encodeSequence(info, algorithm, encodeBitString(sign(isP384 ? 'sha384' : 'sha256', info, privateKey)))
}

/** The same with a key that may be anywhere. */
export async function signCertificateRequest (signer: Signer, names: RequestedNames = {}): Promise<Uint8Array> {
  const info = encodeInfo(signer.publicKey, names)
  return encodeSequence(info, algorithmOfKeyType[signer.type], encodeBitString(await signer.sign(info, 'der')))
}

function encodeInfo (publicKey: Uint8Array, names: RequestedNames): Uint8Array {
  const { subjectDer = emptyName, uriSans = [], dnsSans = [], extensions = Buffer.alloc(0) } = names
  const sans = [...uriSans.map(encodeUri), ...dnsSans.map(encodeDnsName)]
  const alternative = sans.length === 0 ? [] : [encodeExtension(oid.subjectAltName, false, encodeSequence(...sans))]
  const attribute = encodeSequence(encodeOid(oid.extensionRequest), encodeSet(encodeSequence(...alternative, extensions)))
  const isAsked = sans.length > 0 || extensions.length > 0
  return encodeSequence(encodeUnsigned(Buffer.of(0)), subjectDer, publicKey, encodeContext(0, ...isAsked ? [attribute] : []))
}

function read (der: Uint8Array): CertificateRequest {
  const outer = new DerReader(der)
  const request = outer.enter(derTag.sequence)
  outer.finish()
  const info = request.readWhole(derTag.sequence)
  const algorithmDer = request.readWhole(derTag.sequence)
  const signature = request.readOctetsOfBits()
  request.finish()

  const fields = new DerReader(info).enter(derTag.sequence)
  if (fields.readSmallInteger() !== 0) throw new DerError('version is not 1')
  const subjectDer = fields.readWhole(derTag.sequence)
  parseName(subjectDer)
  const publicKey = fields.readWhole(derTag.sequence)
  const names = readRequestedNames(fields.enterOptional(contextTag(0, 'constructed')) ?? noContent)
  fields.finish()

  const facts = parseSubjectKey(publicKey)
  const algorithm = findSignatureAlgorithm(algorithmDer)
  if (algorithm === undefined) throw malformed(`signature algorithm ${algorithmOid(algorithmDer)} is not accepted`)
  if (!verifySignature(algorithm, info, signature, { facts, key: publicKey })) throw malformed('the signature is not of the key inside')
  return { publicKey, subjectDer, uriSans: names.uris, dnsSans: names.dnsNames }
}

function readRequestedNames (attributes: DerReader): GeneralNames {
  let requested: GeneralNames | undefined
  while (!attributes.isDone) {
    const attribute = attributes.enter(derTag.sequence)
    const type = attribute.readOid()
    const values = attribute.enter(derTag.set)
    attribute.finish()
    if (type !== oid.extensionRequest) continue
    if (requested !== undefined) throw new DerError('more than one extension request')
    requested = readExtensions(values.enter(derTag.sequence)).subjectAltNames
    values.finish()
  }
  return requested ?? noNames
}

function malformed (rule: string, cause?: Error): SpiffeError {
  return new SpiffeError('csr_malformed', `no usable certificate request: ${rule}`, { cause })
}

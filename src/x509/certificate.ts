import { SpiffeError } from '../spiffe/errors.ts'
import { readExtensions, type CertificateExtensions, type KeyUsage } from './certificate-extensions.ts'
import { DerError, DerReader, noContent } from './der-reader.ts'
import { contextTag, derTag } from './der-tag.ts'
import { readTime } from './der-time.ts'
import type { GeneralNames } from './general-names.ts'
import type { NameConstraints } from './name-constraints.ts'
import { parseName } from './name.ts'

/** An X.509 certificate (RFC 5280 §4) as it was read; nothing in it is verified. All bytes are views of the input. */
export interface Certificate {
  /** DER. */
  readonly raw: Uint8Array
  /** The part that is signed, DER. */
  readonly tbs: Uint8Array
  /** AlgorithmIdentifier, DER. */
  readonly signatureAlgorithm: Uint8Array
  readonly signature: Uint8Array
  /** Lower-case hex without leading zeros. */
  readonly serialNumber: string
  /** Name, DER. */
  readonly issuerDer: Uint8Array
  /** Name, DER. */
  readonly subjectDer: Uint8Array
  readonly notBefore: Date
  readonly notAfter: Date
  /** SubjectPublicKeyInfo, DER; may be of a kind that is accepted nowhere. */
  readonly publicKey: Uint8Array
  /** False without basicConstraints (AMB-21). */
  readonly isCa: boolean
  readonly pathLength: number | undefined
  readonly keyUsage: ReadonlySet<KeyUsage> | undefined
  /** Purposes as object identifiers in dots. */
  readonly extendedKeyUsage: ReadonlySet<string> | undefined
  readonly uriSans: readonly string[]
  readonly dnsSans: readonly string[]
  readonly subjectAltNames: GeneralNames
  readonly nameConstraints: NameConstraints | undefined
  readonly subjectKeyId: Uint8Array | undefined
  readonly authorityKeyId: Uint8Array | undefined
  /** Object identifiers of the extensions marked critical. */
  readonly critical: ReadonlySet<string>
  /** Those among them that are not understood here. */
  readonly unknownCritical: readonly string[]
}

const maxCertificateBytes = 64 * 1024

/**
 * Reads exactly one certificate; trailing bytes are refused (TS-06).
 * @throws {SpiffeError} `certificate_malformed`
 */
export function parseCertificate (der: Uint8Array): Certificate {
  if (der.length > maxCertificateBytes) throw malformed(`longer than ${maxCertificateBytes} bytes`)
  return reading(() => read(der))
}

/**
 * Splits DER certificates that stand back to back (AMB-20) by their lengths; their content is not looked at.
 * @returns none for no bytes
 * @throws {SpiffeError} `certificate_malformed`
 */
export function splitCertificates (der: Uint8Array): Uint8Array[] {
  return reading(() => {
    const certificates: Uint8Array[] = []
    for (const reader = new DerReader(der); !reader.isDone;) certificates.push(reader.readWhole(derTag.sequence))
    return certificates
  })
}

function read (der: Uint8Array): Certificate {
  const outer = new DerReader(der)
  const certificate = outer.enter(derTag.sequence)
  outer.finish()
  const tbs = certificate.readWhole(derTag.sequence)
  const signatureAlgorithm = certificate.readWhole(derTag.sequence)
  const signature = certificate.readOctetsOfBits()
  certificate.finish()

  const fields = new DerReader(tbs).enter(derTag.sequence)
  const version = readVersion(fields)
  const serial = fields.readInteger()
  if (serial[0]! >= 0x80 || serial.length > 21) throw new DerError('serial number is negative or longer than 20 bytes')
  if (Buffer.compare(fields.readWhole(derTag.sequence), signatureAlgorithm) !== 0) throw new DerError('two different signature algorithms')
  const issuerDer = readName(fields)
  const validity = fields.enter(derTag.sequence)
  const notBefore = readTime(validity)
  const notAfter = readTime(validity)
  validity.finish()
  const subjectDer = readName(fields)
  const publicKey = fields.readWhole(derTag.sequence)
  // Unique identifiers of version 2: obsolete, ignored.
  for (const number of [1, 2]) if (fields.nextTag === contextTag(number, 'primitive')) fields.readWhole()
  const extensions = readExtensionsField(fields, version)
  fields.finish()

  return {
    raw: der,
    tbs,
    signatureAlgorithm,
    signature,
    serialNumber: Buffer.from(serial).toString('hex').replace(/^0+(?=.)/, ''),
    issuerDer,
    subjectDer,
    notBefore,
    notAfter,
    publicKey,
    ...extensions,
    uriSans: extensions.subjectAltNames.uris,
    dnsSans: extensions.subjectAltNames.dnsNames
  }
}

function readVersion (fields: DerReader): number {
  const explicit = fields.enterOptional(contextTag(0, 'constructed'))
  if (explicit === undefined) return 1
  const version = explicit.readSmallInteger() + 1
  explicit.finish()
  if (version !== 2 && version !== 3) throw new DerError(`version ${version}`)
  return version
}

function readName (fields: DerReader): Uint8Array {
  const name = fields.readWhole(derTag.sequence)
  parseName(name)
  return name
}

function readExtensionsField (fields: DerReader, version: number): CertificateExtensions {
  const explicit = fields.enterOptional(contextTag(3, 'constructed'))
  if (explicit === undefined) return readExtensions(noContent)
  if (version !== 3) throw new DerError(`extensions in version ${version}`)
  const list = explicit.enter(derTag.sequence)
  explicit.finish()
  return readExtensions(list)
}

function reading<T> (read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof DerError) throw malformed(error.message, error)
    throw error
  }
}

function malformed (rule: string, cause?: Error): SpiffeError {
  return new SpiffeError('certificate_malformed', `no certificate in DER: ${rule}`, { cause })
}

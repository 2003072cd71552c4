import { DerError, DerReader } from './der-reader.ts'
import { contextTag, derTag } from './der-tag.ts'
import { noNames, readGeneralNames, type GeneralNames } from './general-names.ts'
import { readNameConstraints, type NameConstraints } from './name-constraints.ts'
import { oid } from './oid.ts'

export type KeyUsage =
  | 'digitalSignature' | 'nonRepudiation' | 'keyEncipherment' | 'dataEncipherment' | 'keyAgreement'
  | 'keyCertSign' | 'cRLSign' | 'encipherOnly' | 'decipherOnly'

/** In the order of their bits (RFC 5280 §4.2.1.3). */
export const keyUsages: readonly KeyUsage[] = [
  'digitalSignature', 'nonRepudiation', 'keyEncipherment', 'dataEncipherment', 'keyAgreement',
  'keyCertSign', 'cRLSign', 'encipherOnly', 'decipherOnly'
]

/** What a certificate's extensions say; an absent extension leaves its default. */
export interface CertificateExtensions {
  readonly isCa: boolean
  /** Of basicConstraints; `undefined` means no limit. */
  readonly pathLength: number | undefined
  readonly keyUsage: ReadonlySet<KeyUsage> | undefined
  /** Purposes as object identifiers in dots. */
  readonly extendedKeyUsage: ReadonlySet<string> | undefined
  readonly subjectAltNames: GeneralNames
  readonly nameConstraints: NameConstraints | undefined
  readonly subjectKeyId: Uint8Array | undefined
  readonly authorityKeyId: Uint8Array | undefined
  /** Object identifiers of the extensions marked critical. */
  readonly critical: ReadonlySet<string>
  /** Those among them that are not understood here. */
  readonly unknownCritical: readonly string[]
}

type Writable = { -readonly [Name in keyof CertificateExtensions]: CertificateExtensions[Name] }
type Read = (content: DerReader, into: Writable) => void

const readers: Readonly<Record<string, Read>> = {
  [oid.basicConstraints] (content, into) {
    const constraints = content.enter(derTag.sequence)
    into.isCa = constraints.nextTag === derTag.boolean && constraints.readBoolean()
    if (!constraints.isDone) into.pathLength = constraints.readSmallInteger()
    constraints.finish()
  },
  [oid.keyUsage] (content, into) {
    into.keyUsage = new Set(content.readNamedBits().flatMap(bit => keyUsages[bit] ?? []))
  },
  [oid.extendedKeyUsage] (content, into) {
    const purposes = content.enter(derTag.sequence)
    const found = new Set<string>()
    while (!purposes.isDone) found.add(purposes.readOid())
    if (found.size === 0) throw new DerError('extendedKeyUsage without a purpose')
    into.extendedKeyUsage = found
  },
  [oid.subjectAltName] (content, into) {
    into.subjectAltNames = readGeneralNames(content.enter(derTag.sequence))
  },
  [oid.nameConstraints] (content, into) {
    into.nameConstraints = readNameConstraints(content.enter(derTag.sequence))
  },
  [oid.subjectKeyIdentifier] (content, into) {
    into.subjectKeyId = content.read(derTag.octetString)
  },
  [oid.authorityKeyIdentifier] (content, into) {
    const identifier = content.enter(derTag.sequence)
    const keyId = contextTag(0, 'primitive')
    if (identifier.nextTag === keyId) into.authorityKeyId = identifier.read(keyId)
    // Issuer and serial number, if there, are hints for building paths that are not used.
    while (!identifier.isDone) identifier.readWhole()
  },
  // Understood: no policy is asked for, and none can forbid a path unless policyConstraints, which is not understood, says so.
  [oid.certificatePolicies] (content) { content.readWhole(derTag.sequence) }
}

/** @param extensions inside the SEQUENCE of extensions; empty for a certificate that has none. @throws {DerError} */
export function readExtensions (extensions: DerReader): CertificateExtensions {
  const critical = new Set<string>()
  const into: Writable = {
    isCa: false,
    pathLength: undefined,
    keyUsage: undefined,
    extendedKeyUsage: undefined,
    subjectAltNames: noNames,
    nameConstraints: undefined,
    subjectKeyId: undefined,
    authorityKeyId: undefined,
    critical,
    unknownCritical: []
  }
  const seen = new Set<string>()
  while (!extensions.isDone) {
    const extension = extensions.enter(derTag.sequence)
    const id = extension.readOid()
    if (extension.nextTag === derTag.boolean && extension.readBoolean()) critical.add(id)
    const content = extension.enter(derTag.octetString)
    extension.finish()
    if (seen.has(id)) throw new DerError(`extension ${id} is there twice`)
    seen.add(id)
    const read = readers[id]
    if (read === undefined) continue
    read(content, into)
    content.finish()
  }
  if (!into.isCa) into.pathLength = undefined
  into.unknownCritical = [...critical].filter(id => readers[id] === undefined)
  return into
}

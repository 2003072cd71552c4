import { DerReader } from './der-reader.ts'
import { derTag } from './der-tag.ts'
import { encodeName, parseName } from './name.ts'
import { oid } from './oid.ts'

/** A Name by what its attributes mean, as SPIRE's plugins see it. Values of one attribute are in order; empty texts are not there. */
export interface DistinguishedName {
  readonly country: readonly string[]
  readonly organization: readonly string[]
  readonly organizationalUnit: readonly string[]
  readonly locality: readonly string[]
  readonly province: readonly string[]
  readonly streetAddress: readonly string[]
  readonly postalCode: readonly string[]
  readonly commonName: string
  readonly serialNumber: string
  /** All others. One of a type that has a field here is written instead of that field. */
  readonly extraNames: readonly ExtraName[]
}

export interface ExtraName {
  /** In dots. */
  readonly oid: string
  readonly value: string
}

const lists = {
  country: oid.country, organization: oid.organization, organizationalUnit: oid.organizationalUnit, locality: '2.5.4.7',
  province: '2.5.4.8', streetAddress: '2.5.4.9', postalCode: '2.5.4.17'
} as const
const texts = { commonName: oid.commonName, serialNumber: oid.serialNumber } as const
type ListField = keyof typeof lists
type TextField = keyof typeof texts

const readable: ReadonlySet<number> = new Set([derTag.utf8String, derTag.printableString, derTag.ia5String])

/**
 * The attributes of a Name in DER that are in an encoding of today (RFC 5280 §4.1.2.4), in order.
 * @returns values by type in dots
 * @throws {DerError}
 */
export function attributesOf (name: Uint8Array): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>()
  for (const rdn of parseName(name)) {
    const attributes = new DerReader(rdn).enter(derTag.set)
    while (!attributes.isDone) {
      const attribute = attributes.enter(derTag.sequence)
      const type = attribute.readOid()
      const tag = attribute.nextTag
      if (tag === undefined || !readable.has(tag)) continue
      const value = Buffer.from(attribute.read(tag)).toString('utf8')
      const values = found.get(type)
      if (values === undefined) found.set(type, [value])
      else values.push(value)
    }
  }
  return found
}

/**
 * Reads a Name in DER by its meaning. Of common names and serial numbers the last counts, and attributes in encodings of old are left out
 * (RFC 5280 §4.1.2.4).
 * @throws {DerError}
 */
export function readDistinguishedName (der: Uint8Array): DistinguishedName {
  const found = attributesOf(der)
  const known = new Set<string>([...Object.values(lists), ...Object.values(texts)])
  const ofLists = Object.entries(lists).map(([field, type]) => [field, found.get(type) ?? []])
  const ofTexts = Object.entries(texts).map(([field, type]) => [field, found.get(type)?.at(-1) ?? ''])
  const extraNames = [...found].filter(([type]) => !known.has(type)).flatMap(([oid, values]) => values.map(value => ({ oid, value })))
  return { ...Object.fromEntries(ofLists) as Pick<DistinguishedName, ListField>,
    ...Object.fromEntries(ofTexts) as Pick<DistinguishedName, TextField>, extraNames }
}

/** @returns a Name in DER, one attribute per relative distinguished name, in the order of the fields */
export function encodeDistinguishedName (name: DistinguishedName): Uint8Array {
  const extra = name.extraNames.map(({ oid, value }) => [oid, value] as const)
  const replaced = new Set(extra.map(([type]) => type))
  const fields = [
    ...Object.entries(lists).flatMap(([field, type]) => name[field as ListField].map(value => [type, value] as const)),
    ...Object.entries(texts).map(([field, type]) => [type, name[field as TextField]] as const)
  ].filter(([type, value]) => value !== '' && !replaced.has(type))
  return encodeName([...fields, ...extra])
}

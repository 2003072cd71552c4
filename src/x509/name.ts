import { DerError, DerReader } from './der-reader.ts'
import { derTag } from './der-tag.ts'
import { encodeDer, encodeOid, encodeSequence, encodeSet } from './der-writer.ts'

/** A Name without attributes. */
export const emptyName: Uint8Array = encodeSequence()

/**
 * Reads a Name (RFC 5280 §4.1.2.4).
 * @returns its relative distinguished names in order, in DER: two are equal if their bytes are
 * @throws {DerError}
 */
export function parseName (der: Uint8Array): Uint8Array[] {
  const outer = new DerReader(der)
  const names = outer.enter(derTag.sequence)
  outer.finish()
  const rdns: Uint8Array[] = []
  while (!names.isDone) {
    const rdn = names.readWhole(derTag.set)
    const attributes = new DerReader(rdn).enter(derTag.set)
    if (attributes.isDone) throw new DerError('relative distinguished name without attributes')
    while (!attributes.isDone) {
      const attribute = attributes.enter(derTag.sequence)
      attribute.read(derTag.oid)
      attribute.readWhole()
      attribute.finish()
    }
    rdns.push(rdn)
  }
  return rdns
}

/** A Name of one attribute per relative distinguished name. @param attributes type in dots and value, in order */
export function encodeName (attributes: readonly (readonly [type: string, value: string])[]): Buffer {
  return encodeSequence(...attributes.map(([type, value]) => {
    const tag = /^[A-Za-z0-9 '()+,\-./:=?]*$/.test(value) ? derTag.printableString : derTag.utf8String
    return encodeSet(encodeSequence(encodeOid(type), encodeDer(tag, Buffer.from(value, 'utf8'))))
  }))
}

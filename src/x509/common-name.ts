import { DerReader } from './der-reader.ts'
import { derTag } from './der-tag.ts'
import { parseName } from './name.ts'
import { oid } from './oid.ts'

const texts: ReadonlySet<number> = new Set([derTag.utf8String, derTag.printableString, derTag.ia5String])

/**
 * The common name of a Name in DER; of several the last. `undefined`: there is none, or it is in none of the encodings of today
 * (RFC 5280 §4.1.2.4).
 */
export function commonNameOf (name: Uint8Array): string | undefined {
  let found: string | undefined
  for (const rdn of parseName(name)) {
    const attributes = new DerReader(rdn).enter(derTag.set)
    while (!attributes.isDone) {
      const attribute = attributes.enter(derTag.sequence)
      if (attribute.readOid() !== oid.commonName) continue
      const tag = attribute.nextTag
      if (tag !== undefined && texts.has(tag)) found = Buffer.from(attribute.read(tag)).toString('utf8')
    }
  }
  return found
}

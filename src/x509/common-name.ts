import { attributesOf } from './distinguished-name.ts'
import { oid } from './oid.ts'

/**
 * The common name of a Name in DER; of several the last. `undefined`: there is none, or it is in none of the encodings of today
 * (RFC 5280 §4.1.2.4).
 */
export function commonNameOf (name: Uint8Array): string | undefined {
  return attributesOf(name).get(oid.commonName)?.at(-1)
}

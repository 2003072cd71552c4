import { encodeBoolean, encodeOctetString, encodeOid, encodeSequence } from './der-writer.ts'

/** One Extension (RFC 5280 §4.1). @param value the extension's own DER */
export function encodeExtension (id: string, isCritical: boolean, value: Uint8Array): Buffer {
  return encodeSequence(encodeOid(id), ...isCritical ? [encodeBoolean(true)] : [], encodeOctetString(value))
}

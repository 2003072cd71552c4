import { contextTag, derTag } from './der-tag.ts'

/** One element. @param parts its content, in pieces */
export function encodeDer (tag: number, ...parts: readonly Uint8Array[]): Buffer {
  let length = 0
  for (const part of parts) length += part.length
  const lengthOctets = length < 0x80 ? 0 : length < 0x100 ? 1 : length < 0x1_0000 ? 2 : 3
  if (length > 0xff_ffff) throw new RangeError(`an element of ${length} bytes`)
  const bytes = Buffer.allocUnsafe(2 + lengthOctets + length)
  bytes[0] = tag
  bytes[1] = lengthOctets === 0 ? length : 0x80 | lengthOctets
  if (lengthOctets > 0) bytes.writeUIntBE(length, 2, lengthOctets)
  let at = 2 + lengthOctets
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

export function encodeSequence (...parts: readonly Uint8Array[]): Buffer { return encodeDer(derTag.sequence, ...parts) }
export function encodeSet (...parts: readonly Uint8Array[]): Buffer { return encodeDer(derTag.set, ...parts) }
export function encodeOctetString (content: Uint8Array): Buffer { return encodeDer(derTag.octetString, content) }
export function encodeBoolean (value: boolean): Buffer { return encodeDer(derTag.boolean, Buffer.of(value ? 0xff : 0)) }
/** A bit string of whole octets. */
export function encodeBitString (octets: Uint8Array): Buffer { return encodeDer(derTag.bitString, Buffer.of(0), octets) }

/** A named bit list without its trailing zeros. @param bits numbers, the first bit being 0 */
export function encodeNamedBits (bits: readonly number[]): Buffer {
  const highest = Math.max(-1, ...bits)
  const octets = Buffer.alloc((highest + 8) >> 3)
  for (const bit of bits) octets[bit >> 3]! |= 0x80 >> (bit & 7)
  return encodeDer(derTag.bitString, Buffer.of(highest < 0 ? 0 : 7 - (highest & 7)), octets)
}

/** @param magnitude of a number that is not negative, big endian; leading zeros are dropped or added as DER wants it */
export function encodeUnsigned (magnitude: Uint8Array): Buffer {
  const first = magnitude.findIndex(byte => byte !== 0)
  if (first < 0) return encodeDer(derTag.integer, Buffer.of(0))
  const digits = magnitude.subarray(first)
  return digits[0]! >= 0x80 ? encodeDer(derTag.integer, Buffer.of(0), digits) : encodeDer(derTag.integer, digits)
}

/** @param dotted such as `2.5.29.17` */
export function encodeOid (dotted: string): Buffer {
  const [first = 0n, second = 0n, ...rest] = dotted.split('.').map(BigInt)
  const octets: number[] = []
  for (const arc of [first * 40n + second, ...rest]) {
    const digits = [Number(arc & 0x7fn)]
    for (let left = arc >> 7n; left > 0n; left >>= 7n) digits.unshift(Number(left & 0x7fn) | 0x80)
    octets.push(...digits)
  }
  return encodeDer(derTag.oid, Buffer.from(octets))
}

/** `[number] EXPLICIT`, or an implicitly tagged constructed type given by its content. */
export function encodeContext (number: number, ...parts: readonly Uint8Array[]): Buffer {
  return encodeDer(contextTag(number, 'constructed'), ...parts)
}

/** `[number] IMPLICIT` of a primitive type. */
export function encodeContextPrimitive (number: number, content: Uint8Array): Buffer {
  return encodeDer(contextTag(number, 'primitive'), content)
}

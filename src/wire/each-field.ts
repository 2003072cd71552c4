import type { WireReader } from './wire-reader.ts'

/** The tag of a text, bytes or message. */
export function lengthTag (field: number): number { return field << 3 | 2 }
/** The tag of a whole number, enum or boolean. */
export function varintTag (field: number): number { return field << 3 }

const deepest = 100

/**
 * Reads the fields of a message without making one, for what is read thousands of times a second.
 * @param read takes the value of a field it knows, or returns false
 */
export function eachField (reader: WireReader, read: (tag: number, reader: WireReader) => boolean): void {
  while (reader.at < reader.end) {
    const tag = reader.tag()
    if (!read(tag, reader)) reader.skip(tag, deepest)
  }
}

/** Reads a message inside the message, whole. */
export function within<T> (reader: WireReader, read: (reader: WireReader) => T): T {
  const length = reader.length()
  const { end } = reader
  reader.end = reader.at + length
  const result = read(reader)
  reader.at = reader.end
  reader.end = end
  return result
}

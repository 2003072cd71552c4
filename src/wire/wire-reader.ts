import { isUtf8 } from 'node:buffer'
import { malformed } from './wire-error.ts'

/** Reads protobuf strictly: nothing beyond `end`, no overlong varint, no invalid UTF-8. Throws `message_malformed`. */
export class WireReader {
  readonly #buffer: Buffer
  at: number
  end: number
  /** Upper 32 bits of the last `varint64`. */
  high = 0

  constructor (bytes: Uint8Array) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.at = 0
    this.end = bytes.byteLength
  }

  byte (): number {
    if (this.at >= this.end) throw malformed('the message ends inside a field')
    return this.#buffer[this.at++] as number
  }

  /** The lower 32 bits, unsigned, of a varint of up to 64; the upper ones are left in `high`. */
  varint64 (): number {
    let byte = this.byte()
    this.high = 0
    if (byte < 0x80) return byte
    let low = byte & 0x7f
    let shift = 7
    for (; shift < 28; shift += 7) {
      byte = this.byte()
      low |= (byte & 0x7f) << shift
      if (byte < 0x80) return low >>> 0
    }
    byte = this.byte()
    low |= (byte & 0x0f) << 28
    let high = (byte & 0x7f) >>> 4
    for (shift = 3; byte >= 0x80; shift += 7) {
      if (shift > 31) throw malformed('a varint has more than ten bytes')
      byte = this.byte()
      high |= (byte & 0x7f) << shift
    }
    this.high = high >>> 0
    return low >>> 0
  }

  /** A field's number and wire type, as on the wire: `number << 3 | type`. */
  tag (): number {
    const tag = this.varint64()
    if (this.high !== 0 || tag < 8) throw malformed('a field has the number 0 or one above 2^29')
    return tag
  }

  /** Reads a length prefix and makes sure that so many bytes are there. */
  length (): number {
    const length = this.varint64()
    if (this.high !== 0 || length > this.end - this.at) throw malformed('the message ends inside a field')
    return length
  }

  fixed32 (): number { return this.#buffer.readUInt32LE(this.#step(4)) }
  float (): number { return this.#buffer.readFloatLE(this.#step(4)) }
  double (): number { return this.#buffer.readDoubleLE(this.#step(8)) }

  /** A copy, so that a small field does not keep the whole message in memory. */
  raw (): Uint8Array {
    const length = this.length()
    return new Uint8Array(this.#buffer.subarray(this.at, this.at += length))
  }

  text (): string {
    const length = this.length()
    const start = this.at
    this.at += length
    const text = this.#buffer.toString('utf8', start, this.at)
    // Invalid bytes decode to U+FFFD, which may also have been sent as such.
    if (text.includes('\ufffd') && !isUtf8(this.#buffer.subarray(start, this.at))) throw malformed('a string is not valid UTF-8')
    return text
  }

  /** Passes over the value of a field nobody asked for. @param depth how many more nested groups are allowed */
  skip (tag: number, depth: number): void {
    switch (tag & 7) {
      case 0: this.varint64(); break
      case 1: this.#step(8); break
      case 2: this.#step(this.length()); break
      case 3: this.#skipGroup(tag, depth); break
      case 5: this.#step(4); break
      default: throw malformed(`a field has the wire type ${tag & 7}`)
    }
  }

  #skipGroup (tag: number, depth: number): void {
    if (depth <= 0) throw malformed('messages are nested too deeply')
    for (;;) {
      const inner = this.tag()
      if ((inner & 7) !== 4) {
        this.skip(inner, depth - 1)
        continue
      }
      if (inner >>> 3 !== tag >>> 3) throw malformed('a group ends with the number of another')
      return
    }
  }

  #step (bytes: number): number {
    if (bytes > this.end - this.at) throw malformed('the message ends inside a field')
    const at = this.at
    this.at += bytes
    return at
  }
}

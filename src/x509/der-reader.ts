import { derTag } from './der-tag.ts'

/** Bytes that are no DER, or not the structure asked for. Parsers turn it into a refusal of their own. */
export class DerError extends Error {
  override readonly name = 'DerError'
}

/**
 * Reads DER (X.690 §10) front to back without copying: what it returns are views of the input. Strict: definite lengths in
 * their shortest form, tag numbers up to 30, nothing beyond the end of the enclosing element.
 */
export class DerReader {
  readonly #bytes: Uint8Array
  readonly #end: number
  #at: number
  /** End of the header read last. */
  #content = 0

  constructor (bytes: Uint8Array, start = 0, end = bytes.length) {
    this.#bytes = bytes
    this.#at = start
    this.#end = end
  }

  get isDone (): boolean { return this.#at === this.#end }

  /** The tag of the next element; `undefined` at the end. */
  get nextTag (): number | undefined { return this.isDone ? undefined : this.#bytes[this.#at] }

  /** The content of the next element. */
  read (tag: number): Uint8Array {
    const end = this.#next(tag)
    return this.#bytes.subarray(this.#content, end)
  }

  /** The next element with its header; of any tag if none is given. */
  readWhole (tag?: number): Uint8Array {
    const start = this.#at
    const end = this.#next(tag)
    return this.#bytes.subarray(start, end)
  }

  /** A reader of the next element's content. */
  enter (tag: number): DerReader {
    const end = this.#next(tag)
    return new DerReader(this.#bytes, this.#content, end)
  }

  /** Like `enter`, or `undefined` when the next element has another tag. */
  enterOptional (tag: number): DerReader | undefined {
    return this.nextTag === tag ? this.enter(tag) : undefined
  }

  /** Refuses trailing bytes. */
  finish (): void {
    if (!this.isDone) throw new DerError(`${this.#end - this.#at} trailing bytes at offset ${this.#at}`)
  }

  /** Two's complement, big endian, in its shortest form. */
  readInteger (): Uint8Array {
    const content = this.read(derTag.integer)
    const [first, second] = content
    if (first === undefined) throw new DerError('integer without content')
    if (second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) {
      throw new DerError('integer is not in its shortest form')
    }
    return content
  }

  /** An integer from 0 to 2^31 - 1. */
  readSmallInteger (): number {
    const content = this.readInteger()
    if (content.length > 4 || content[0]! >= 0x80) throw new DerError('integer is out of range')
    return content.reduce((value, byte) => value * 256 + byte, 0)
  }

  readBoolean (): boolean {
    const content = this.read(derTag.boolean)
    if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) throw new DerError('boolean is neither 00 nor ff')
    return content[0] === 0xff
  }

  /** A bit string of whole octets. */
  readOctetsOfBits (): Uint8Array {
    const content = this.read(derTag.bitString)
    if (content[0] !== 0) throw new DerError('bit string is not made of whole octets')
    return content.subarray(1)
  }

  /** The numbers of the bits that are set, the first one being 0. */
  readNamedBits (): number[] {
    const content = this.read(derTag.bitString)
    const unused = content[0]
    const last = content.length > 1 ? content.at(-1)! : 0
    if (unused === undefined || unused > 7 || (content.length === 1 && unused > 0) || (last & ((1 << unused) - 1)) !== 0) {
      throw new DerError('bit string with ill-formed unused bits')
    }
    if (content.length > 5) throw new DerError('bit string is too long')
    const bits = []
    for (let bit = 0; bit < (content.length - 1) * 8; bit++) if ((content[1 + (bit >> 3)]! & (0x80 >> (bit & 7))) !== 0) bits.push(bit)
    return bits
  }

  /** In dots and decimals. */
  readOid (): string {
    const content = this.read(derTag.oid)
    if (content.length === 0 || content.length > 64 || content.at(-1)! >= 0x80) throw new DerError('ill-formed object identifier')
    const arcs: string[] = []
    let arc = 0n
    let isFirst = true
    for (const byte of content) {
      if (isFirst && byte === 0x80) throw new DerError('object identifier is not in its shortest form')
      arc = arc << 7n | BigInt(byte & 0x7f)
      isFirst = byte < 0x80
      if (!isFirst) continue
      if (arcs.length > 0) arcs.push(arc.toString())
      else arcs.push(...arc < 80n ? [(arc / 40n).toString(), (arc % 40n).toString()] : ['2', (arc - 80n).toString()])
      arc = 0n
    }
    return arcs.join('.')
  }

  #next (tag: number | undefined): number {
    const bytes = this.#bytes
    let at = this.#at
    const actual = at < this.#end ? bytes[at++] : undefined
    if (actual === undefined) throw new DerError(`input ends at offset ${at} where ${describeTag(tag)} is due`)
    if (tag !== undefined && actual !== tag) throw new DerError(`${describeTag(actual)} instead of ${describeTag(tag)} at offset ${at - 1}`)
    if ((actual & 0x1f) === 0x1f) throw new DerError(`tag number above 30 at offset ${at - 1}`)
    let length = at < this.#end ? bytes[at++]! : Number.NaN
    if (length >= 0x80) {
      let octets = length & 0x7f
      if (octets === 0 || octets > 4 || at + octets > this.#end) throw new DerError(`ill-formed length at offset ${at - 1}`)
      const shortest = octets === 1 ? 0x80 : 2 ** (8 * (octets - 1))
      for (length = 0; octets > 0; octets--) length = length * 256 + bytes[at++]!
      if (length < shortest) throw new DerError(`length at offset ${at} is not in its shortest form`)
    }
    if (!(at + length <= this.#end)) throw new DerError(`element at offset ${this.#at} is longer than what encloses it`)
    this.#content = at
    this.#at = at + length
    return this.#at
  }
}

/** Of an element that is absent. */
export const noContent: DerReader = new DerReader(new Uint8Array())

function describeTag (tag: number | undefined): string {
  return tag === undefined ? 'an element' : `tag 0x${tag.toString(16).padStart(2, '0')}`
}

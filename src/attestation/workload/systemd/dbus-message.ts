/** Messages of the D-Bus protocol (D-Bus Specification, "Message Protocol"), as far as asking questions needs them. */

export const messageType = { call: 1, reply: 2, error: 3, signal: 4 } as const

export interface DbusCall {
  /** Bus name; none on a connection without a bus. */
  readonly destination: string | undefined
  readonly path: string
  readonly interface: string
  readonly member: string
  /** One letter for each argument: `s` a text, `u` a number below 2^32. */
  readonly signature: string
  readonly body: readonly (string | number)[]
}

export interface DbusMessage {
  readonly type: number
  readonly serial: number
  readonly replySerial: number | undefined
  readonly errorName: string | undefined
  /** Of `body`. */
  readonly signature: string
  readonly bytes: Uint8Array
  /** Where the body begins. */
  readonly bodyAt: number
}

/** What a message may have at most: more than any answer we ask for, far below the specification's 128 MiB. */
const maxMessageBytes = 1024 * 1024
const fixedHeaderBytes = 16
const field = { path: 1, interface: 2, member: 3, errorName: 4, replySerial: 5, destination: 6, signature: 8 } as const

/** @param serial not 0; the reply repeats it */
export function encodeCall (serial: number, call: DbusCall): Uint8Array {
  const body = new DbusWriter()
  for (const [index, value] of call.body.entries()) body.value(call.signature[index] as string, value)
  const writer = new DbusWriter()
  for (const byte of [0x6c, messageType.call, 0, 1]) writer.byte(byte)
  writer.uint32(body.length)
  writer.uint32(serial)
  const fields: [number, string, string][] = [
    [field.path, 'o', call.path],
    [field.interface, 's', call.interface],
    [field.member, 's', call.member],
    ...call.destination === undefined ? [] : [[field.destination, 's', call.destination] as [number, string, string]],
    ...call.signature === '' ? [] : [[field.signature, 'g', call.signature] as [number, string, string]]
  ]
  writer.array(() => {
    for (const [code, type, value] of fields) {
      writer.align(8)
      writer.byte(code)
      writer.value('g', type)
      writer.value(type, value)
    }
  })
  writer.align(8)
  return Buffer.concat([writer.bytes(), body.bytes()])
}

/** Bytes of the message that begins here, once so many are there to tell. @throws {RangeError} for what is no message, or too long */
export function messageLength (bytes: Uint8Array): number | undefined {
  if (bytes.length < fixedHeaderBytes) return undefined
  const little = isLittle(bytes)
  const view = viewOf(bytes)
  const length = aligned(fixedHeaderBytes + view.getUint32(12, little), 8) + view.getUint32(4, little)
  if (length > maxMessageBytes) throw new RangeError(`a message of ${length} bytes`)
  return length
}

/** @param bytes of one message, whole. @throws {RangeError} for what is malformed */
export function decodeMessage (bytes: Uint8Array): DbusMessage {
  const little = isLittle(bytes)
  const view = viewOf(bytes)
  const fieldsEnd = fixedHeaderBytes + view.getUint32(12, little)
  const reader = new DbusReader(bytes, fixedHeaderBytes)
  const fields = new Map<number, unknown>()
  while (reader.at < fieldsEnd) {
    reader.align(8)
    fields.set(reader.byte(), reader.value('v'))
  }
  return {
    type: view.getUint8(1),
    serial: view.getUint32(8, little),
    replySerial: fields.get(field.replySerial) as number | undefined,
    errorName: fields.get(field.errorName) as string | undefined,
    signature: fields.get(field.signature) as string | undefined ?? '',
    bytes,
    bodyAt: aligned(fieldsEnd, 8)
  }
}

/** The arguments, each of a basic type or a variant of one. @throws {RangeError} for others, and for what is malformed */
export function bodyOf ({ signature, bytes, bodyAt }: DbusMessage): unknown[] {
  const reader = new DbusReader(bytes, bodyAt)
  return signature.split('').map(type => reader.value(type))
}

/** Aligned from where it begins, so that it fits where eight-byte alignment ends. */
export class DbusWriter {
  readonly #bytes: number[] = []

  get length (): number { return this.#bytes.length }
  bytes (): Uint8Array { return Uint8Array.from(this.#bytes) }
  byte (value: number): void { this.#bytes.push(value) }
  align (to: number): void { while (this.#bytes.length % to !== 0) this.#bytes.push(0) }

  uint32 (value: number): void {
    this.align(4)
    for (const shift of [0, 8, 16, 24]) this.#bytes.push((value >>> shift) & 0xff)
  }

  /** Of types `s`, `o`, `g` and `u`. */
  value (type: string, value: string | number): void {
    if (type === 'u') return this.uint32(Number(value))
    const text = Buffer.from(String(value))
    if (type === 'g') this.byte(text.length)
    else this.uint32(text.length)
    this.#bytes.push(...text, 0)
  }

  /** Of elements aligned to eight bytes; what pads before the first does not count. */
  array (elements: () => void): void {
    this.uint32(0)
    const lengthAt = this.#bytes.length - 4
    this.align(8)
    const begin = this.#bytes.length
    elements()
    const length = this.#bytes.length - begin
    for (const [index, shift] of [0, 8, 16, 24].entries()) this.#bytes[lengthAt + index] = (length >>> shift) & 0xff
  }
}

class DbusReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #little: boolean
  at: number

  constructor (bytes: Uint8Array, at: number) {
    this.#bytes = bytes
    this.#view = viewOf(bytes)
    this.#little = isLittle(bytes)
    this.at = at
  }

  align (to: number): void { this.at = aligned(this.at, to) }
  byte (): number { return this.#view.getUint8(this.at++) }

  value (type: string): unknown {
    switch (type) {
      case 'y': return this.byte()
      case 'b': return this.#uint32() !== 0
      case 'u': return this.#uint32()
      case 's': case 'o': return this.#text(this.#uint32())
      case 'g': return this.#text(this.byte())
      case 'v': return this.value(this.#text(this.byte()))
      default: throw new RangeError(`a value of type ${JSON.stringify(type)}`)
    }
  }

  #uint32 (): number {
    this.align(4)
    const value = this.#view.getUint32(this.at, this.#little)
    this.at += 4
    return value
  }

  #text (length: number): string {
    const end = this.at + length
    if (end >= this.#bytes.length) throw new RangeError(`a text of ${length} bytes`)
    const text = new TextDecoder('utf-8', { fatal: true }).decode(this.#bytes.subarray(this.at, end))
    this.at = end + 1
    return text
  }
}

function isLittle (bytes: Uint8Array): boolean {
  if (bytes[0] !== 0x6c && bytes[0] !== 0x42) throw new RangeError('no D-Bus message')
  return bytes[0] === 0x6c
}

function viewOf (bytes: Uint8Array): DataView { return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) }

function aligned (length: number, to: number): number { return Math.ceil(length / to) * to }

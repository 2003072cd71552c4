import type { BackwardWriter } from './backward-writer.ts'
import type { ScalarType } from './message-type.ts'
import type { WireReader } from './wire-reader.ts'

export interface ValueCodec<T> {
  /** 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes. */
  readonly wireType: 0 | 1 | 2 | 5
  readonly initial: T
  isInitial (value: T): boolean
  write (writer: BackwardWriter, value: T): void
  read (reader: WireReader): T
}

const noBytes = new Uint8Array(0)

export const scalarCodecs: { readonly [Name in ScalarType]: ValueCodec<never> } = {
  int32: number(0, (w, v) => v < 0 ? w.varint64(v >>> 0, 0xffffffff) : w.varint(v), r => r.varint64() | 0, signed32),
  uint32: number(0, (w, v) => w.varint(v), r => r.varint64(), unsigned32),
  sint32: number(0, (w, v) => w.varint(((v << 1) ^ (v >> 31)) >>> 0), r => unzigzag(r.varint64()), signed32),
  fixed32: number(5, (w, v) => w.fixed32(v), r => r.fixed32(), unsigned32),
  sfixed32: number(5, (w, v) => w.fixed32(v), r => r.fixed32() | 0, signed32),
  float: number(5, (w, v) => w.float(v), r => r.float(), anyNumber),
  double: number(1, (w, v) => w.double(v), r => r.double(), anyNumber),
  int64: bigint(0, (w, v) => writeBig(w, v), r => signed(readBig(r)), -(2n ** 63n), 2n ** 63n - 1n),
  uint64: bigint(0, (w, v) => writeBig(w, v), r => readBig(r), 0n, 2n ** 64n - 1n),
  sint64: bigint(0, (w, v) => writeBig(w, (v << 1n) ^ (v >> 63n)), r => unzigzag64(readBig(r)), -(2n ** 63n), 2n ** 63n - 1n),
  fixed64: bigint(1, writeFixed64, readFixed64, 0n, 2n ** 64n - 1n),
  sfixed64: bigint(1, writeFixed64, r => signed(readFixed64(r)), -(2n ** 63n), 2n ** 63n - 1n),
  bool: codec<boolean>({
    wireType: 0,
    initial: false,
    isInitial: value => !value,
    write: (writer, value) => writer.byte(value ? 1 : 0),
    read: reader => reader.varint64() !== 0 || reader.high !== 0
  }),
  string: codec<string>({
    wireType: 2,
    initial: '',
    isInitial: value => value === '',
    write (writer, value) {
      if (typeof value !== 'string') throw new TypeError(`expected a string, got ${typeof value}`)
      const before = writer.written
      writer.text(value)
      writer.varint(writer.written - before)
    },
    read: reader => reader.text()
  }),
  bytes: codec<Uint8Array>({
    wireType: 2,
    initial: noBytes,
    isInitial: value => value.length === 0,
    write (writer, value) {
      if (!(value instanceof Uint8Array)) throw new TypeError(`expected bytes, got ${typeof value}`)
      writer.raw(value)
      writer.varint(value.length)
    },
    read: reader => reader.raw()
  })
}

/** Enums are open (proto3): a value without a name is kept. */
export const enumCodec = scalarCodecs.int32

/** The table has one type for all; each codec only ever meets its own values. */
function codec<T> (codec: ValueCodec<T>): ValueCodec<never> {
  return codec as ValueCodec<never>
}

function number (
  wireType: 0 | 1 | 5, write: (writer: BackwardWriter, value: number) => void, read: (reader: WireReader) => number,
  check: (value: number) => boolean
): ValueCodec<never> {
  return codec<number>({
    wireType,
    initial: 0,
    isInitial: value => Object.is(value, 0),
    write (writer, value) {
      if (!check(value)) throw new RangeError(`${String(value)} does not fit the field's type`)
      write(writer, value)
    },
    read
  })
}

function bigint (
  wireType: 0 | 1, write: (writer: BackwardWriter, value: bigint) => void, read: (reader: WireReader) => bigint, least: bigint, most: bigint
): ValueCodec<never> {
  return codec<bigint | number>({
    wireType,
    initial: 0n,
    isInitial: value => value === 0n || value === 0,
    write (writer, value) {
      // BigInt() refuses fractions; a number above 2^53 has lost its digits already.
      if (typeof value === 'number' && !Number.isSafeInteger(value)) throw new RangeError(`${value} does not fit the field's type`)
      const big = BigInt(value)
      if (big < least || big > most) throw new RangeError(`${value} does not fit the field's type`)
      write(writer, big)
    },
    read
  })
}

function signed32 (value: number): boolean { return (value | 0) === value }
function unsigned32 (value: number): boolean { return value >>> 0 === value }
function anyNumber (value: number): boolean { return typeof value === 'number' }
function unzigzag (value: number): number { return (value >>> 1) ^ -(value & 1) }
function unzigzag64 (value: bigint): bigint { return (value >> 1n) ^ -(value & 1n) }
function signed (value: bigint): bigint { return BigInt.asIntN(64, value) }

function writeBig (writer: BackwardWriter, value: bigint): void {
  const bits = BigInt.asUintN(64, value)
  writer.varint64(Number(bits & 0xffffffffn), Number(bits >> 32n))
}

function readBig (reader: WireReader): bigint {
  const low = reader.varint64()
  return reader.high === 0 ? BigInt(low) : BigInt(reader.high) << 32n | BigInt(low)
}

function writeFixed64 (writer: BackwardWriter, value: bigint): void {
  const bits = BigInt.asUintN(64, value)
  writer.fixed32(Number(bits >> 32n))
  writer.fixed32(Number(bits & 0xffffffffn))
}

function readFixed64 (reader: WireReader): bigint {
  const low = reader.fixed32()
  return BigInt(reader.fixed32()) << 32n | BigInt(low)
}

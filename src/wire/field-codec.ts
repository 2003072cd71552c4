import type { BackwardWriter } from './backward-writer.ts'
import { MessageType, type AnyMessageType, type Field, type FieldType } from './message-type.ts'
import { enumCodec, scalarCodecs, type ValueCodec } from './scalar-codec.ts'
import { malformed } from './wire-error.ts'
import type { WireReader } from './wire-reader.ts'

/** A message being read: field name → value. */
export type Target = Record<string, unknown>

export interface FieldCodec {
  readonly field: Field
  /** What the field holds when the wire says nothing. */
  readonly initial: () => unknown
  /** Writes the field with its tag, or nothing if it has its default. */
  write (writer: BackwardWriter, value: unknown): void
  /** Reads one occurrence; false if the wire type is not the field's: to be passed over as unknown. @param depth nestings left */
  read (reader: WireReader, target: Target, wireType: number, depth: number): boolean
}

/** One codec per field, in field order, made on first use. */
function codecsOf (type: AnyMessageType): readonly FieldCodec[] {
  return type.codecs ??= type.fields.map(field => {
    if (field.presence === 'repeated') return repeatedCodec(field)
    if (field.presence === 'map') return mapCodec(field)
    const siblings = siblingsOf(type, field)
    if (field.type instanceof MessageType) return messageCodec(field, field.type, siblings)
    return singleCodec(field, field.presence === 'explicit', siblings)
  })
}

/** Writes the fields of a message, without length. */
export function writeFields (writer: BackwardWriter, type: AnyMessageType, message: Target): void {
  const codecs = codecsOf(type)
  for (let i = codecs.length - 1; i >= 0; i--) {
    const codec = codecs[i] as FieldCodec
    const value = message[codec.field.name]
    if (value !== undefined && value !== null) codec.write(writer, value)
  }
}

export function emptyMessage (type: AnyMessageType): Target {
  const message: Target = {}
  for (const codec of codecsOf(type)) message[codec.field.name] = codec.initial()
  return message
}

/** Reads fields up to `reader.end` into a message that has its defaults. */
export function readFields (reader: WireReader, type: AnyMessageType, target: Target, depth: number): void {
  const codecs = codecsOf(type)
  let next = 0
  while (reader.at < reader.end) {
    const tag = reader.tag()
    const number = tag >>> 3
    // Fields mostly come in order, repeated ones in a row.
    let codec = codecs[next]
    if (codec?.field.number !== number) {
      next = codecs.findIndex(codec => codec.field.number === number)
      codec = codecs[next]
    }
    if (codec === undefined || !codec.read(reader, target, tag & 7, depth)) reader.skip(tag, depth)
    if (codec?.field.presence === 'implicit') next++
  }
}

function siblingsOf (type: AnyMessageType, field: Field): readonly string[] {
  if (field.oneof === undefined) return []
  return type.fields.filter(other => other.oneof === field.oneof && other !== field).map(other => other.name)
}

function clear (target: Target, names: readonly string[]): void {
  for (const name of names) target[name] = undefined
}

function singleCodec (field: Field, explicit: boolean, siblings: readonly string[] = []): FieldCodec {
  const { name, number } = field
  const codec = valueCodec(field.type)
  const tag = number << 3 | codec.wireType
  return {
    field,
    initial: () => explicit ? undefined : codec.initial,
    write (writer, value) {
      if (!explicit && codec.isInitial(value)) return
      codec.write(writer, value)
      writer.varint(tag)
    },
    read (reader, target, wireType) {
      if (wireType !== codec.wireType) return false
      clear(target, siblings)
      target[name] = codec.read(reader)
      return true
    }
  }
}

function messageCodec (field: Field, type: AnyMessageType, siblings: readonly string[]): FieldCodec {
  const { name, number } = field
  const tag = number << 3 | 2
  return {
    field,
    initial: () => undefined,
    write: (writer, value) => writeNested(writer, type, value, tag),
    read (reader, target, wireType, depth) {
      if (wireType !== 2) return false
      clear(target, siblings)
      // A second occurrence is merged into the first.
      const message = target[name] as Target | undefined ?? emptyMessage(type)
      readNested(reader, type, message, depth)
      target[name] = message
      return true
    }
  }
}

function repeatedCodec (field: Field): FieldCodec {
  const { name, number, type } = field
  if (type instanceof MessageType) {
    const tag = number << 3 | 2
    return {
      field,
      initial: () => [],
      write (writer, value) {
        const list = value as readonly unknown[]
        for (let i = list.length - 1; i >= 0; i--) writeNested(writer, type, list[i], tag)
      },
      read (reader, target, wireType, depth) {
        if (wireType !== 2) return false
        const message = emptyMessage(type)
        readNested(reader, type, message, depth)
        ;(target[name] as unknown[]).push(message)
        return true
      }
    }
  }
  const codec = valueCodec(type)
  const packed = codec.wireType !== 2
  const tag = number << 3 | 2
  return {
    field,
    initial: () => [],
    write (writer, value) {
      const list = value as readonly unknown[]
      const before = writer.written
      for (let i = list.length - 1; i >= 0; i--) {
        codec.write(writer, list[i])
        if (!packed) writer.varint(tag)
      }
      if (!packed || list.length === 0) return
      writer.varint(writer.written - before)
      writer.varint(tag)
    },
    read (reader, target, wireType) {
      const list = target[name] as unknown[]
      if (wireType === codec.wireType) {
        list.push(codec.read(reader))
      } else if (packed && wireType === 2) {
        within(reader, () => { while (reader.at < reader.end) list.push(codec.read(reader)) })
      } else {
        return false
      }
      return true
    }
  }
}

function mapCodec (field: Field): FieldCodec {
  const { name, number, type } = field
  const tag = number << 3 | 2
  const keyField = singleCodec({ number: 1, name: 'key', type: field.keyType ?? 'string', presence: 'implicit' }, true)
  const nested = type instanceof MessageType ? type : undefined
  const valueField = nested === undefined
    ? singleCodec({ number: 2, name: 'value', type, presence: 'implicit' }, true)
    : messageCodec({ number: 2, name: 'value', type, presence: 'explicit' }, nested, [])
  const [noKey, noValue] = [valueCodec(field.keyType ?? 'string').initial, nested === undefined ? valueCodec(type).initial : undefined]
  return {
    field,
    // Without a prototype, so that `__proto__` is a key as any other (TS-03).
    initial: () => Object.create(null) as object,
    write (writer, value) {
      const entries = value instanceof Map ? [...value as Map<string, unknown>] : Object.entries(value as object)
      for (const [key, item] of entries.toReversed()) {
        const before = writer.written
        if (item !== undefined) valueField.write(writer, item)
        keyField.write(writer, fromMapKey(key, field.keyType))
        writer.varint(writer.written - before)
        writer.varint(tag)
      }
    },
    read (reader, target, wireType, depth) {
      if (wireType !== 2) return false
      const entry: Target = { key: noKey, value: noValue }
      if (depth <= 0) throw malformed('messages are nested too deeply')
      within(reader, () => {
        while (reader.at < reader.end) {
          const tag = reader.tag()
          const part = tag >>> 3 === 1 ? keyField : tag >>> 3 === 2 ? valueField : undefined
          if (part === undefined || !part.read(reader, entry, tag & 7, depth - 1)) reader.skip(tag, depth - 1)
        }
      })
      ;(target[name] as Target)[String(entry['key'])] = entry['value'] ?? emptyMessage(nested as AnyMessageType)
      return true
    }
  }
}

/** Record keys are text; the wire wants the declared type. */
function fromMapKey (key: string, type: Field['keyType']): unknown {
  if (type === 'string' || type === undefined) return key
  if (type === 'bool') return key === 'true'
  return type.endsWith('64') ? BigInt(key) : Number(key)
}

function writeNested (writer: BackwardWriter, type: AnyMessageType, value: unknown, tag: number): void {
  if (typeof value !== 'object' || value === null) throw new TypeError(`expected a ${type.name}, got ${typeof value}`)
  const before = writer.written
  writeFields(writer, type, value as Target)
  writer.varint(writer.written - before)
  writer.varint(tag)
}

function readNested (reader: WireReader, type: AnyMessageType, target: Target, depth: number): void {
  if (depth <= 0) throw malformed('messages are nested too deeply')
  within(reader, () => readFields(reader, type, target, depth - 1))
}

/** Reads a length prefix and keeps `read` inside it. */
function within (reader: WireReader, read: () => void): void {
  const outer = reader.end
  const length = reader.length()
  reader.end = reader.at + length
  read()
  reader.end = outer
}

function valueCodec (type: FieldType): ValueCodec<unknown> {
  if (type instanceof MessageType) throw new TypeError(`${type.name} is no scalar`)
  return (typeof type === 'string' ? scalarCodecs[type] : enumCodec)
}

import type { FieldCodec } from './field-codec.ts'

export type ScalarType = 'double' | 'float' | 'int32' | 'uint32' | 'sint32' | 'fixed32' | 'sfixed32'
  | 'int64' | 'uint64' | 'sint64' | 'fixed64' | 'sfixed64' | 'bool' | 'string' | 'bytes'

/** The names of an enum; on the wire and in messages its values are plain numbers, unknown ones included (proto3). */
export type EnumNames = Readonly<Record<string, number>>
/** An enum with its full name. */
export interface EnumType { readonly name: string, readonly enum: EnumNames }
export type FieldType = ScalarType | EnumType | AnyMessageType

export interface Field {
  readonly number: number
  /** lowerCamelCase, as in the generated interfaces. */
  readonly name: string
  readonly type: FieldType
  /** `implicit`: a scalar whose default is not sent; `explicit`: `optional`, oneof members and messages. */
  readonly presence: 'implicit' | 'explicit' | 'repeated' | 'map'
  /** Of a map. */
  readonly keyType?: ScalarType
  /** Members of one oneof share its name: decoding one clears the others. */
  readonly oneof?: string
  /** Declared `optional`; on a message that changes nothing but its descriptor. */
  readonly optional?: true
}

/**
 * A message of some proto, as a value: `encodeMessage(type, init)`, `decodeMessage(type, bytes)`.
 * `T` is what decoding gives (every field there), `Init` what encoding takes (every field optional).
 */
export class MessageType<T, Init> {
  /** Full name, e.g. `spire.api.types.Entry`. */
  readonly name: string
  declare readonly decoded: T
  declare readonly init: Init
  readonly #makeFields: () => readonly Field[]
  #fields: readonly Field[] | undefined
  /** Compiled by `field-codec.ts` when first used. */
  codecs: readonly FieldCodec[] | undefined

  constructor (name: string, makeFields: () => readonly Field[]) {
    this.name = name
    this.#makeFields = makeFields
  }

  /** Read late, because messages may contain each other. */
  get fields (): readonly Field[] { return this.#fields ??= this.#makeFields() }
}

// eslint-disable-next-line typescript/no-explicit-any -- the one place where any message will do
export type AnyMessageType = MessageType<any, any>

export type Decoded<M extends AnyMessageType> = M['decoded']
export type Init<M extends AnyMessageType> = M['init']

/** A singular field. Scalars and enums have no presence (proto3), messages have. */
export function field (number: number, name: string, type: FieldType): Field {
  return { number, name, type, presence: type instanceof MessageType ? 'explicit' : 'implicit' }
}

export function optional (number: number, name: string, type: FieldType): Field {
  return { number, name, type, presence: 'explicit', optional: true }
}

export function oneof (group: string, number: number, name: string, type: FieldType): Field {
  return { number, name, type, presence: 'explicit', oneof: group }
}

export function repeated (number: number, name: string, type: FieldType): Field {
  return { number, name, type, presence: 'repeated' }
}

export function map (number: number, name: string, keyType: ScalarType, type: FieldType): Field {
  return { number, name, type, presence: 'map', keyType }
}

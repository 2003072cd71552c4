import type { Struct, StructInit, Value, ValueInit } from './generated/well-known.ts'

/** A `google.protobuf.Struct` as the JSON it stands for. Objects have no prototype. */
export function structToJson (struct: Struct | undefined): Readonly<Record<string, unknown>> {
  const object = Object.create(null) as Record<string, unknown>
  for (const [name, value] of fieldsOf(struct, structToJson)) object[name] = value
  return object
}

/** The same with maps in place of objects, for where keys are data and must not pass for names of fields. */
export function structToMap (struct: Struct | undefined): ReadonlyMap<string, unknown> {
  return new Map(fieldsOf(struct, structToMap))
}

/** JSON as `google.protobuf.Struct`; numbers become doubles, whole ones beyond 2^53 the nearest. */
export function jsonToStruct (object: Readonly<Record<string, unknown>>): StructInit {
  return { fields: new Map(Object.entries(object).map(([name, value]) => [name, jsonToValue(value)])) }
}

type Read = (struct: Struct) => unknown

function fieldsOf (struct: Struct | undefined, read: Read): [string, unknown][] {
  return Object.entries(struct?.fields ?? {}).map(([name, value]) => [name, valueToJson(value, read)])
}

function valueToJson ({ stringValue, numberValue, boolValue, structValue, listValue }: Value, read: Read): unknown {
  if (structValue !== undefined) return read(structValue)
  return listValue?.values.map(value => valueToJson(value, read)) ?? stringValue ?? numberValue ?? boolValue ?? null
}

function jsonToValue (value: unknown): ValueInit {
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'number' || typeof value === 'bigint') return { numberValue: Number(value) }
  if (typeof value === 'boolean') return { boolValue: value }
  if (Array.isArray(value)) return { listValue: { values: value.map(jsonToValue) } }
  return typeof value === 'object' && value !== null ? { structValue: jsonToStruct(value as Record<string, unknown>) } : { nullValue: 0 }
}

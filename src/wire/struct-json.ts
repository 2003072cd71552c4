import type { Struct, StructInit, Value, ValueInit } from './generated/well-known.ts'

/** A `google.protobuf.Struct` as the JSON it stands for. Objects have no prototype. */
export function structToJson (struct: Struct | undefined): Readonly<Record<string, unknown>> {
  const object = Object.create(null) as Record<string, unknown>
  for (const [name, value] of Object.entries(struct?.fields ?? {})) object[name] = valueToJson(value)
  return object
}

/** JSON as `google.protobuf.Struct`. */
export function jsonToStruct (object: Readonly<Record<string, unknown>>): StructInit {
  return { fields: new Map(Object.entries(object).map(([name, value]) => [name, jsonToValue(value)])) }
}

function valueToJson ({ stringValue, numberValue, boolValue, structValue, listValue }: Value): unknown {
  if (structValue !== undefined) return structToJson(structValue)
  return listValue?.values.map(valueToJson) ?? stringValue ?? numberValue ?? boolValue ?? null
}

function jsonToValue (value: unknown): ValueInit {
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'number') return { numberValue: value }
  if (typeof value === 'boolean') return { boolValue: value }
  if (Array.isArray(value)) return { listValue: { values: value.map(jsonToValue) } }
  return typeof value === 'object' && value !== null ? { structValue: jsonToStruct(value as Record<string, unknown>) } : { nullValue: 0 }
}

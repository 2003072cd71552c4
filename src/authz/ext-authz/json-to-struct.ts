import type { StructInit, ValueInit } from '../../wire/generated/well-known.ts'

/** JSON as `google.protobuf.Struct`. */
export function jsonToStruct (object: Readonly<Record<string, unknown>>): StructInit {
  return { fields: new Map(Object.entries(object).map(([name, value]) => [name, jsonToValue(value)])) }
}

function jsonToValue (value: unknown): ValueInit {
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'number') return { numberValue: value }
  if (typeof value === 'boolean') return { boolValue: value }
  if (Array.isArray(value)) return { listValue: { values: value.map(jsonToValue) } }
  return typeof value === 'object' && value !== null ? { structValue: jsonToStruct(value as Record<string, unknown>) } : { nullValue: 0 }
}

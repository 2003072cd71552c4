import type { Struct, Value } from '../../wire/generated/well-known.ts'

/** A protobuf `Struct` as plain values; maps, since its keys are data and not field names. */
export function structMap (struct: Struct | undefined): ReadonlyMap<string, unknown> {
  return new Map(Object.entries(struct?.fields ?? {}).map(([name, value]) => [name, plain(value)]))
}

function plain (value: Value): unknown {
  if (value.structValue !== undefined) return structMap(value.structValue)
  if (value.listValue !== undefined) return value.listValue.values.map(plain)
  return value.stringValue ?? value.numberValue ?? value.boolValue ?? null
}

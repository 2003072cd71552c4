import type { Struct, Value } from '../../wire/generated/well-known.ts'

/** A `google.protobuf.Struct` as the JSON it stands for. Objects have no prototype. */
export function structToJson (struct: Struct | undefined): Readonly<Record<string, unknown>> {
  const object = Object.create(null) as Record<string, unknown>
  for (const [name, value] of Object.entries(struct?.fields ?? {})) object[name] = valueToJson(value)
  return object
}

function valueToJson ({ stringValue, numberValue, boolValue, structValue, listValue }: Value): unknown {
  if (structValue !== undefined) return structToJson(structValue)
  return listValue?.values.map(valueToJson) ?? stringValue ?? numberValue ?? boolValue ?? null
}

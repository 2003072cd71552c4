import { SpiffeError } from '../spiffe/errors.ts'
import type { StructInit, ValueInit } from '../wire/generated/well-known.ts'

/** Deeper claims would overrun the recursion limits of common protobuf readers. */
const maxDepth = 32

/**
 * JSON as `google.protobuf.Struct`; numbers become doubles (TS-04).
 * @throws {SpiffeError} `jwt_svid_invalid` when nested too deeply
 */
export function encodeStruct (object: Readonly<Record<string, unknown>>, depth = 0): StructInit {
  if (depth > maxDepth) throw new SpiffeError('jwt_svid_invalid', `claims are nested more than ${maxDepth} deep`)
  return { fields: new Map(Object.entries(object).map(([name, value]) => [name, encodeValue(value, depth)])) }
}

function encodeValue (value: unknown, depth: number): ValueInit {
  switch (typeof value) {
    case 'string': return { stringValue: value }
    case 'number': return { numberValue: value }
    case 'bigint': return { numberValue: Number(value) }
    case 'boolean': return { boolValue: value }
    case 'object': {
      if (value === null) return { nullValue: 0 }
      if (!Array.isArray(value)) return { structValue: encodeStruct(value as Record<string, unknown>, depth + 1) }
      if (depth >= maxDepth) throw new SpiffeError('jwt_svid_invalid', `claims are nested more than ${maxDepth} deep`)
      return { listValue: { values: value.map(item => encodeValue(item, depth + 1)) } }
    }
    default: return { nullValue: 0 }
  }
}

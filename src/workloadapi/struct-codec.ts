import { SpiffeError } from '../spiffe/errors.ts'
import type { StructInit } from '../wire/generated/well-known.ts'
import { jsonToStruct } from '../wire/struct-json.ts'

/** Deeper claims would overrun the recursion limits of common protobuf readers. */
const maxDepth = 32

/**
 * Claims as `google.protobuf.Struct`; numbers become doubles (TS-04).
 * @throws {SpiffeError} `jwt_svid_invalid` when nested too deeply
 */
export function encodeStruct (claims: Readonly<Record<string, unknown>>): StructInit {
  if (isDeeper(claims, maxDepth)) throw new SpiffeError('jwt_svid_invalid', `claims are nested more than ${maxDepth} deep`)
  return jsonToStruct(claims)
}

function isDeeper (value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  return depth < 0 || Object.values(value).some(inner => isDeeper(inner, depth - 1))
}

import fc from 'fast-check'
import t from 'tap'
import { parseStrictJsonObject } from '../../src/spiffe/strict-json.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { Struct } from '../../src/wire/generated/well-known.ts'
import { structToMap } from '../../src/wire/struct-json.ts'
import { encodeStruct } from '../../src/workloadapi/struct-codec.ts'
import { jsonObject } from '../fakes/arbitraries.ts'
import { holds, unlessRefused } from '../fakes/holds.ts'

/** What a client that reads the bytes makes of them. */
function overTheWire (object: Readonly<Record<string, unknown>>): unknown {
  return plain(structToMap(decodeMessage(Struct, encodeMessage(Struct, encodeStruct(object)))))
}

/** Maps as lists of sorted pairs: comparable, also with a name such as `__proto__`. */
function plain (value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null) return value
  const entries = value instanceof Map ? [...value as Map<string, unknown>] : Object.entries(value)
  return entries.map(([name, value]) => [name, plain(value)]).toSorted(([a], [b]) => String(a) < String(b) ? -1 : 1)
}

const isSame = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b)

void t.test('claims as google.protobuf.Struct', async t => {
  await holds(t, 'round trip of any JSON object', fc.property(jsonObject, object => isSame(overTheWire(object), plain(object))))
  const large = fc.bigInt({ min: -(2n ** 80n), max: 2n ** 80n })
  await holds(t, 'TS-04 whole numbers beyond 2^53 become the nearest double', fc.property(large, number => {
    const claims = parseStrictJsonObject(`{"n": ${number}}`)
    return isSame(overTheWire(claims), [['n', Number(number)]])
  }))
  await holds(t, 'nesting is accepted up to a depth, and refused beyond', fc.property(fc.array(fc.boolean(), { maxLength: 60 }), kinds => {
    const nested = kinds.reduce<unknown>((inner, isList) => isList ? [inner] : { inner }, 1)
    const encoded = unlessRefused('jwt_svid_invalid', () => overTheWire({ nested }))
    return (encoded !== undefined) === (kinds.length <= 32)
  }))
})

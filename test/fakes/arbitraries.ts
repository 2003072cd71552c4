import fc from 'fast-check'
import { parseSpiffeId, type SpiffeId } from '../../src/spiffe/spiffe-id.ts'

const lower = Array.from('abcdefghijklmnopqrstuvwxyz0123456789')

/** Text without lone surrogates, controls and all planes included. */
export const anyText = fc.string({ unit: 'binary', maxLength: 40 })

/** Any JSON object, with names such as `__proto__` in it. */
export const jsonObject: fc.Arbitrary<Record<string, fc.JsonValue>> = fc.dictionary(
  fc.oneof(anyText, fc.constantFrom('__proto__', 'constructor', 'toString')), fc.jsonValue({ maxDepth: 4 })
)

/** Of letters that rarely follow each other: where it shows up, it was not by chance. */
export const secret = fc.string({ unit: fc.constantFrom(...Array.from('qxzjkv')), minLength: 12, maxLength: 20 })

/** Any ID with a path, in this trust domain. */
export function memberIdOf (trustDomain: string): fc.Arbitrary<SpiffeId> {
  const alphabet = [...lower, ...Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZ.-_')]
  const segment = fc.string({ unit: fc.constantFrom(...alphabet), minLength: 1, maxLength: 60 })
    .filter(text => text !== '.' && text !== '..')
  return fc.array(segment, { minLength: 1, maxLength: 30 }).map(segments => parseSpiffeId(`spiffe://${trustDomain}/${segments.join('/')}`))
}

/** Names that differ from each other; a wildcard now and then. */
export const dnsNames: fc.Arbitrary<string[]> = fc.uniqueArray(fc.tuple(
  fc.boolean(),
  fc.array(fc.string({ unit: fc.constantFrom(...lower), minLength: 1, maxLength: 62 }), { minLength: 1, maxLength: 4 })
).map(([wildcard, labels]) => `${wildcard ? '*.' : ''}${labels.join('.')}`).filter(name => name.length <= 253), { maxLength: 6 })

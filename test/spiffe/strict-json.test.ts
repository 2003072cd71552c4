import fc from 'fast-check'
import t from 'tap'
import { codeOf } from '../../src/spiffe/errors.ts'
import { formatJson } from '../../src/spiffe/format-json.ts'
import { parseStrictJson, parseStrictJsonObject, type JsonObject } from '../../src/spiffe/strict-json.ts'

const refusal = { code: 'json_malformed' }

void t.test('names', async t => {
  t.throws(() => parseStrictJson('{"a":1,"a":1}'), refusal, 'TS-03 a repeated name is refused')
  t.throws(() => parseStrictJson('{"a":1,"\\u0061":2}'), refusal, 'TS-03 also when spelled with an escape')
  t.throws(() => parseStrictJson('{"x":[{"a":{"b":1,"c":2,"b":3}}]}'), refusal, 'TS-03 also deep inside')
  t.throws(() => parseStrictJson('{"__proto__":1,"__proto__":2}'), refusal, 'TS-03 also __proto__')
  t.strictSame(parseStrictJson('{"a":{"a":1},"b":{"a":2}}'), nullPrototype({ a: nullPrototype({ a: 1 }), b: nullPrototype({ a: 2 }) }))
  const hostile = parseStrictJsonObject('{"__proto__":{"admin":true},"constructor":1,"toString":2}')
  t.strictSame(Object.keys(hostile), ['__proto__', 'constructor', 'toString'], 'TS-03 __proto__ is a name like any other')
  t.equal(hostile.admin, undefined)
  t.notOk('toString' in parseStrictJsonObject('{}'), 'TS-03 nothing is inherited')
  t.equal(({} as Record<string, unknown>).admin, undefined, 'TS-03 no prototype is polluted')
})

void t.test('numbers', async t => {
  t.equal(parseStrictJson('9007199254740991'), Number.MAX_SAFE_INTEGER)
  t.equal(parseStrictJson('9007199254740993'), 9007199254740993n, 'TS-04 an integer above 2^53 keeps its digits')
  t.equal(parseStrictJson('18446744073709551615'), 2n ** 64n - 1n, 'TS-04 64 bits')
  t.equal(parseStrictJson('-9007199254740993'), -9007199254740993n, 'TS-04 negative too')
  t.equal(formatJson({ a: 9007199254740993n, b: [1] }), '{"a":9007199254740993,"b":[1]}', 'TS-04 and is written as it is')
  t.equal(parseStrictJson('1.5e2'), 150)
  for (const text of ['01', '+1', '.5', '1.', '1e', '-', '0x10', 'NaN', 'Infinity', '-Infinity', '1e999', '1_000', '9'.repeat(129), '1n']) {
    t.throws(() => parseStrictJson(text), refusal, text.slice(0, 12))
  }
})

void t.test('what no parser should let pass', async t => {
  const texts = ['', ' ', '{', '[', '"', '{"a"}', '{"a":}', '{"a":1,}', '[1,]', '[,1]', '{,}', "{'a':1}", '{a:1}', '[1 2]',
    '{} {}', '{}x', 'nul', 'True', '// x\n1', '/**/1', '\ufeff1', '\u00a01', '"\n"', '"\t"', '"\\x"', '"\\u12"', '"\\"',
    '"\\ud800"', '"\ud800"', '"\\udc00\\ud800"', 'undefined', '1;', '"a" "b"']
  for (const text of texts) t.throws(() => parseStrictJson(text), refusal, JSON.stringify(text))
  t.throws(() => parseStrictJson(Buffer.from([0x22, 0xff, 0x22])), refusal, 'invalid UTF-8')
  t.throws(() => parseStrictJson(Buffer.from([0xef, 0xbb, 0xbf, 0x31])), refusal, 'a byte order mark')
  t.throws(() => parseStrictJson(Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22])), refusal, 'a surrogate in UTF-8')
  t.equal(parseStrictJson('"\\ud83d\\ude00\\/\\""'), '😀/"', 'a pair of surrogates is a character')
  for (const text of ['[1]', '"a"', 'null', '1']) t.throws(() => parseStrictJsonObject(text), refusal, `${text} is no object`)
  try {
    parseStrictJson('{"token":"secret" oops')
  } catch (error) {
    t.notMatch((error as Error).message, /secret|oops/, 'the message holds nothing of the text')
    t.match((error as Error).message, 'malformed JSON at offset 18: expected a comma')
  }
})

void t.test('limits', async t => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
  t.ok(parseStrictJson(nested(32)))
  t.throws(() => parseStrictJson(nested(34)), refusal, 'depth')
  t.throws(() => parseStrictJson('['.repeat(4_000_000)), refusal, 'depth of millions')
  t.throws(() => parseStrictJson('{"a":'.repeat(100)), refusal, 'depth of objects')
  t.throws(() => parseStrictJson('[1,2]', { maxLength: 4 }), refusal, 'length')
  t.throws(() => parseStrictJson('[[1]]', { maxDepth: 1 }), refusal, 'chosen depth')
  const long = `"${'\\\\'.repeat(1_000_000)}\\""`
  t.equal(parseStrictJson(long), JSON.parse(long), 'a long string of escapes costs linear time and no stack')
})

void t.test('against JSON.parse', async t => {
  fc.assert(fc.property(fc.jsonValue({ maxDepth: 6 }), fc.nat(3), (value, indent) => {
    const text = JSON.stringify(value, null, indent)
    t.same(asDoubles(parseStrictJson(text)), JSON.parse(text))
  }), { numRuns: 300 })
  // One edit of a good text: whatever we accept, JSON.parse reads alike; what we refuse beyond it has a known reason.
  const edits = fc.tuple(fc.json({ maxDepth: 3 }), fc.nat(), fc.string({ maxLength: 2, unit: 'binary' }), fc.nat(2))
  fc.assert(fc.property(edits, ([json, position, insert, cut]) => {
    const at = position % (json.length + 1)
    const text = json.slice(0, at) + insert + json.slice(at + cut)
    const ours = outcome(() => parseStrictJson(text))
    const theirs = outcome(() => JSON.parse(text) as unknown)
    if ('value' in ours) return 'value' in theirs && JSON.stringify(theirs.value) === JSON.stringify(asDoubles(ours.value))
    return codeOf(ours.error) === 'json_malformed' &&
      (!('value' in theirs) || /repeated|surrogate|range|long|deep/.test((ours.error as Error).message))
  }), { numRuns: 3000 })
  fc.assert(fc.property(fc.uint8Array({ maxLength: 30 }), bytes => {
    const result = outcome(() => parseStrictJson(bytes))
    return 'value' in result || codeOf(result.error) === 'json_malformed'
  }), { numRuns: 1000 })
})

type Outcome = { readonly value: unknown } | { readonly error: unknown }

function outcome (action: () => unknown): Outcome {
  try {
    return { value: action() }
  } catch (error) {
    return { error }
  }
}

function asDoubles (value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (_name, member: unknown) => typeof member === 'bigint' ? Number(member) : member)) as unknown
}

function nullPrototype (members: Record<string, unknown>): JsonObject {
  return Object.assign(Object.create(null) as object, members) as JsonObject
}

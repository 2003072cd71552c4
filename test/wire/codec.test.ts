import fc from 'fast-check'
import protobuf from 'protobufjs'
import t from 'tap'
import { loadProtos } from '../../scripts/wire/load-protos.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { DiscoveryRequest, DiscoveryResponse } from '../../src/wire/generated/envoy-sds.ts'
import { DataSource } from '../../src/wire/generated/envoy-core.ts'
import { Bundle, Entry, FederationRelationship } from '../../src/wire/generated/types.ts'
import { Struct } from '../../src/wire/generated/well-known.ts'
import { JWTSVIDRequest, X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { field, map, MessageType, oneof, optional, repeated, type AnyMessageType } from '../../src/wire/message-type.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'))
const malformed = { code: 'message_malformed' }

void t.test('integers of 64 bits', async t => {
  for (const sequenceNumber of [0n, 1n, 2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n]) {
    t.equal(decodeMessage(Bundle, encodeMessage(Bundle, { sequenceNumber })).sequenceNumber, sequenceNumber,
      `TS-04 uint64 ${sequenceNumber} keeps its digits`)
  }
  for (const createdAt of [-(2n ** 63n), -1n, 0n, 2n ** 31n, 2n ** 53n + 1n, 2n ** 63n - 1n]) {
    t.equal(decodeMessage(Entry, encodeMessage(Entry, { createdAt })).createdAt, createdAt, `TS-04 int64 ${createdAt} keeps its digits`)
  }
  t.equal(hex(encodeMessage(Bundle, { sequenceNumber: 2n ** 63n - 1n })), '28ffffffffffffffff7f')
  t.equal(hex(encodeMessage(Bundle, { sequenceNumber: 300 })), '28ac02', 'a safe number will do when encoding')
  for (const sequenceNumber of [-1n, 2n ** 64n, 2 ** 60, 1.5]) {
    t.throws(() => encodeMessage(Bundle, { sequenceNumber }), RangeError, `TS-04 ${sequenceNumber} is no uint64 of known digits`)
  }
})

void t.test('maps', async t => {
  const federatedBundles = Object.fromEntries([['__proto__', new Uint8Array([1])], ['constructor', new Uint8Array([2])],
    ['', new Uint8Array([3])]])
  const decoded = decodeMessage(X509SVIDResponse, encodeMessage(X509SVIDResponse, { federatedBundles })).federatedBundles
  t.same(Object.entries(decoded), Object.entries(federatedBundles), '__proto__ and constructor are keys as any other')
  t.equal(Object.getPrototypeOf(decoded), null, 'no key is inherited')
  t.equal(encodeMessage(X509SVIDResponse, { federatedBundles: new Map([['a', new Uint8Array([1])]]) }).length, 8, 'a Map will do')
  t.same({ ...decodeMessage(X509SVIDResponse, bytes('1a00')).federatedBundles }, { '': new Uint8Array() },
    'an entry without key and value has their defaults')
  t.same({ ...decodeMessage(Struct, bytes('0a030a0161')).fields }.a?.stringValue, undefined,
    'an entry without value holds an empty message')
})

void t.test('presence', async t => {
  t.same(encodeMessage(JWTSVIDRequest, { spiffeId: '', audience: [] }), new Uint8Array(), 'defaults are not sent')
  t.same(decodeMessage(JWTSVIDRequest, new Uint8Array()), { audience: [], spiffeId: '' }, 'and are there when decoded')
  t.equal(decodeMessage(Entry, new Uint8Array()).spiffeId, undefined, 'an absent message is undefined')
  t.same(decodeMessage(Entry, encodeMessage(Entry, { spiffeId: {} })).spiffeId, { trustDomain: '', path: '' }, 'an empty one is not absent')
  t.equal(decodeMessage(DataSource, encodeMessage(DataSource, { inlineString: '' })).inlineString, '',
    'a oneof member is sent even if empty')
  const both = Buffer.concat([encodeMessage(FederationRelationship, { httpsWeb: {} }),
    encodeMessage(FederationRelationship, { httpsSpiffe: {} })])
  const decoded = decodeMessage(FederationRelationship, both)
  t.same([decoded.httpsWeb, decoded.httpsSpiffe], [undefined, { endpointSpiffeId: '' }], 'of a oneof the last one wins')
  const merged = Buffer.concat([encodeMessage(Entry, { spiffeId: { trustDomain: 'a' } }),
    encodeMessage(Entry, { spiffeId: { path: '/b' } })])
  t.same(decodeMessage(Entry, merged).spiffeId, { trustDomain: 'a', path: '/b' }, 'a message sent in two pieces is merged')
})

void t.test('strictness', async t => {
  const whole = encodeMessage(Entry, { id: 'x', spiffeId: { trustDomain: 'example.org', path: '/a' }, createdAt: 2n ** 40n,
    selectors: [{ type: 'a', value: 'b' }] })
  const complete = new Set([0, ...prefixes(whole)])
  for (let end = 0; end < whole.length; end++) {
    if (!complete.has(end)) t.throws(() => decodeMessage(Entry, whole.subarray(0, end)), malformed, `cut off after ${end} bytes`)
  }
  const refused = {
    'invalid UTF-8': '0a02c328',
    'a surrogate in UTF-8': '0a03eda080',
    'field number 0': '0200',
    'a length beyond the message': '0aff01',
    'a length of more than 32 bits': '0affffffffff01',
    'a varint of eleven bytes': '48ffffffffffffffffffff01',
    'a wire type that does not exist': 'ff01',
    'the end of a group that never began': 'fc01',
    'a group that ends with another number': 'a306a406ac06',
    'a group that never ends': 'a306'
  }
  for (const [what, text] of Object.entries(refused)) t.throws(() => decodeMessage(Entry, bytes(text)), malformed, what)
  t.equal(decodeMessage(Entry, bytes('0a03efbfbd')).id, '\ufffd', 'the replacement character itself may be sent')
  t.same(decodeMessage(Entry, bytes('a306a80601a406')), decodeMessage(Entry, new Uint8Array()), 'unknown groups are passed over')
  t.same(decodeMessage(JWTSVIDRequest, bytes('080110010900000000000000001500000000220161')), { audience: [], spiffeId: '' },
    'unknown fields and those of another wire type are passed over')
  t.throws(() => decodeMessage(Struct, nested(200)), malformed, 'too deep a nesting is refused')
  t.doesNotThrow(() => decodeMessage(Struct, nested(30)), 'a reasonable one is not')
  t.throws(() => decodeMessage(Entry, new Uint8Array(Buffer.alloc(4000, 'a306', 'hex'))), malformed, 'nor do groups nest without end')
})

void t.test('garbage never does worse than a refusal', async t => {
  const types: AnyMessageType[] = [Entry, Bundle, X509SVIDResponse, Struct, DiscoveryRequest, DiscoveryResponse]
  fc.assert(fc.property(fc.constantFrom(...types), fc.uint8Array({ maxLength: 200 }), (type, input) => {
    try {
      decodeMessage(type, input)
      return true
    } catch (error) {
      return (error as { code?: string }).code === 'message_malformed'
    }
  }), { numRuns: 20_000 })
  t.pass('20 000 inputs')
})

void t.test('values that do not fit are bugs, and leave the encoder usable', async t => {
  t.throws(() => encodeMessage(Entry, { id: 1 as never }), TypeError)
  t.throws(() => encodeMessage(Entry, { x509SvidTtl: 2 ** 31 }), RangeError)
  t.throws(() => encodeMessage(Entry, { x509SvidTtl: 0.5 }), RangeError)
  t.throws(() => encodeMessage(X509SVIDResponse, { svids: [{ bundle: 'text' as never }] }), TypeError)
  t.equal(hex(encodeMessage(Entry, { id: 'x' })), '0a0178')
})

void t.test('bytes are copies', async t => {
  const message = encodeMessage(X509SVIDResponse, { crl: [new Uint8Array([1, 2, 3])] })
  const { crl: [crl] } = decodeMessage(X509SVIDResponse, message)
  message.fill(0)
  t.same(crl, new Uint8Array([1, 2, 3]))
})

void t.test('messages larger than the scratch buffer', async t => {
  const x509Svid = new Uint8Array(3_000_000).map((_, i) => i)
  const message = { svids: [{ spiffeId: 'spiffe://a.b/c', x509Svid }, { hint: 'last' }] }
  const decoded = decodeMessage(X509SVIDResponse, encodeMessage(X509SVIDResponse, message))
  t.same(decoded.svids[0]?.x509Svid, x509Svid)
  t.equal(decoded.svids[1]?.hint, 'last')
})

void t.test('every scalar type, against protobufjs', async t => {
  const { ours, theirs } = everyType()
  const init = fc.record(Object.fromEntries([
    ...Object.entries(arbitraries).map(([type, arbitrary]) => [type, arbitrary]),
    ...Object.entries(arbitraries).map(([type, arbitrary]) => [`${type}s`, fc.array(arbitrary as fc.Arbitrary<unknown>, { maxLength: 4 })]),
    ['maybe', fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined })]
  ]) as Record<string, fc.Arbitrary<unknown>>)
  fc.assert(fc.property(init, message => {
    const encoded = encodeMessage(ours, message)
    const foreign = theirs.decode(encoded)
    const again = theirs.encode(foreign).finish()
    const expected = decodeMessage(ours, encoded)
    t.same(decodeMessage(ours, again), expected)
    for (const type of Object.keys(arbitraries)) {
      const [a, b] = [expected[type], message[type]]
      if (!Object.is(a, b) && hex(a as Uint8Array) !== hex(b as Uint8Array)) return false
    }
    return true
  }), { numRuns: 300 })
})

void t.test('the generated types, against protobufjs', async t => {
  const root = loadProtos(['spire/api/types/entry.proto'])
  const theirs = root.lookupType('spire.api.types.Entry')
  const init = {
    id: 'abc', spiffeId: { trustDomain: 'example.org', path: '/ü' }, selectors: [{ type: 'unix', value: 'uid:0' },
      { type: 'k8s', value: 'ns:x' }],
    x509SvidTtl: -1, federatesWith: ['b.test', ''], admin: true, expiresAt: 5n, additionalAttributes: { jwtSvidIncludeJti: true }
  }
  const encoded = encodeMessage(Entry, init)
  const plain = theirs.toObject(theirs.decode(encoded), { longs: String })
  t.equal(plain['spiffe_id'].path, '/ü')
  t.same(plain['selectors'], init.selectors)
  t.equal(plain['expires_at'], '5')
  t.same(theirs.encode(theirs.fromObject(plain)).finish(), Buffer.from(encoded), 'byte for byte')
})

void t.test('speed', async t => {
  const message = { svids: [{ spiffeId: 'spiffe://example.org/web', x509Svid: new Uint8Array(2400), x509SvidKey: new Uint8Array(140),
    bundle: new Uint8Array(1400) }] }
  const run = (count: number) => { for (let i = 0; i < count; i++) encodeMessage(X509SVIDResponse, message) }
  run(2000)
  const before = process.cpuUsage()
  run(10_000)
  const { user, system } = process.cpuUsage(before)
  const perSecond = Math.round(10_000 / ((user + system) / 1e6))
  t.ok(perSecond > 50_000, `${perSecond} X509SVIDResponses of 4 KB are encoded per second of CPU`)
})

const arbitraries = {
  double: fc.double(), float: fc.float(), int32: fc.integer(), uint32: fc.nat({ max: 2 ** 32 - 1 }), sint32: fc.integer(),
  fixed32: fc.nat({ max: 2 ** 32 - 1 }), sfixed32: fc.integer(), int64: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  uint64: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), sint64: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fixed64: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), sfixed64: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  bool: fc.boolean(), string: fc.string({ unit: 'grapheme' }), bytes: fc.uint8Array()
} as const

/** One message with a singular and a repeated field of each type, and an optional one. */
function everyType (): { ours: AnyMessageType, theirs: protobuf.Type } {
  const scalars = Object.keys(arbitraries) as Array<keyof typeof arbitraries>
  const ours: AnyMessageType = new MessageType('Every', () => [
    ...scalars.map((type, i) => field(i + 1, type, type)),
    ...scalars.map((type, i) => repeated(i + 101, `${type}s`, type)),
    optional(201, 'maybe', 'int32'), oneof('one', 202, 'either', 'string'), oneof('one', 203, 'or', 'bool'), map(3000, 'byNumber', 'int64',
      'string')
  ])
  const source = [
    'syntax = "proto3"; message Every {',
    ...scalars.map((type, i) => `${type} ${type}_ = ${i + 1}; repeated ${type} ${type}s = ${i + 101};`),
    'optional int32 maybe = 201; oneof one { string either = 202; bool or = 203; } map<int64, string> by_number = 3000; }'
  ].join('\n')
  return { ours, theirs: protobuf.parse(source).root.lookupType('Every') }
}

/** Where a message may be cut without losing its shape: between two fields. */
function prefixes (message: Uint8Array): number[] {
  const reader = protobuf.Reader.create(message)
  const ends: number[] = []
  while (reader.pos < reader.len) {
    reader.skipType(reader.uint32() & 7)
    ends.push(reader.pos)
  }
  return ends
}

/** A Struct in a Struct in a Struct… */
function nested (depth: number): Uint8Array {
  let value: Record<string, unknown> = { fields: {} }
  for (let i = 0; i < depth; i++) value = { fields: { a: { structValue: value } } }
  return encodeMessage(Struct, value)
}

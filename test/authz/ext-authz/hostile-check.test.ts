import t from 'tap'
import { readCheck } from '../../../src/authz/ext-authz/read-check.ts'
import { encodeMessage } from '../../../src/wire/encode-message.ts'
import { CheckRequest } from '../../../src/wire/generated/envoy-authorization.ts'

const now = new Date('2026-01-01T12:00:00Z')
const field = (number: number, bytes: Uint8Array) => {
  const tag = number << 3 | 2
  return Buffer.concat([varint(tag), varint(bytes.length), bytes])
}
const text = (number: number, value: string) => field(number, Buffer.from(value))

function varint (value: number): Buffer {
  const bytes: number[] = []
  for (; value > 127; value = Math.floor(value / 128)) bytes.push(value % 128 | 128)
  return Buffer.from([...bytes, value])
}

const web = 'spiffe://own.test/web'
/** Fields that nobody knows, of every wire type. */
const strange = Buffer.concat([
  text(900, web), Buffer.concat([varint(901 << 3), varint(5)]), Buffer.concat([varint(902 << 3 | 1), Buffer.alloc(8, 7)]),
  Buffer.concat([varint(903 << 3 | 5), Buffer.alloc(4, 7)]), field(904, text(1, web))
])

t.test('fields that nobody knows say nothing, at any depth', t => {
  const http = Buffer.concat([text(2, 'GET'), strange, text(4, '/a'), field(3, Buffer.concat([text(1, 'x'), strange, text(2, 'y')]))])
  const bytes = Buffer.concat([
    strange,
    field(1, Buffer.concat([strange, field(1, Buffer.concat([strange, text(4, 'spiffe://own.test/db')])), field(4, Buffer.concat([strange, field(2, http)]))])),
    strange
  ])
  const { request } = readCheck(bytes, now)
  t.match(request, { source: { id: 'spiffe://own.test/db' }, destination: { id: undefined }, http: { method: 'GET', path: '/a' } })
  t.same([...request.http?.headers ?? []], [['x', 'y']])
  t.end()
})

t.test('known fields of another type, or that do not end, are malformed', t => {
  const within = (bytes: Uint8Array) => field(1, bytes)
  const broken: Record<string, Uint8Array> = {
    'a principal that is a number': within(field(1, Buffer.concat([varint(4 << 3), varint(7)]))),
    'a group': within(Buffer.concat([varint(1 << 3 | 3), Buffer.from([1])])),
    'the field 0': within(Buffer.from([2, 0])),
    'longer than what is around it': within(Buffer.concat([varint(1 << 3 | 2), varint(1_000), Buffer.alloc(3)])),
    'a length beyond all': Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
    'a text that is no UTF-8': within(field(1, field(4, Buffer.from([0xc3, 0x28]))))
  }
  for (const [what, bytes] of Object.entries(broken)) {
    let told: unknown
    try {
      told = readCheck(bytes, now).request.source.id
    } catch (error) {
      told = (error as { code?: string }).code
    }
    t.ok(told === undefined || told === 'message_malformed', `${what}: ${String(told)}`)
  }
  t.end()
})

t.test('one identity, whatever stands beside it', t => {
  const of = (principal: string) => readCheck(encodeMessage(CheckRequest, { attributes: { source: { principal } } }), now).request.source.id
  for (const principal of [`${web},${web}`, ` ${web}`, `${web}\n`, `${web}\0`, `${web};x`, `URI:${web}`, 'spiffe://own.test//web', 'spiffe://own.test/./web',
    'spiffe://own.test/%77eb', 'SPIFFE://own.test/web', 'spiffe://own.test:443/web', 'spiffe://x@own.test/web', `${web}?a`, `${web}#a`, `${web}\\`]) {
    t.equal(of(principal), undefined, JSON.stringify(principal))
  }
  t.equal(of(web), web)
  t.end()
})

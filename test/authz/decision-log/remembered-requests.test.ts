import t from 'tap'
import { DecisionLog } from '../../../src/authz/decision-log/decision-log.ts'
import { DecisionRecord, formatDecisionId } from '../../../src/authz/decision-log/decision-record.ts'
import { DecisionRing } from '../../../src/authz/decision-log/decision-ring.ts'
import { Mask } from '../../../src/authz/decision-log/mask.ts'
import { RequestBytes } from '../../../src/authz/decision-log/request-bytes.ts'
import { readCheck } from '../../../src/authz/ext-authz/read-check.ts'
import { encodeMessage } from '../../../src/wire/encode-message.ts'
import { CheckRequest } from '../../../src/wire/generated/envoy-authorization.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'
import { engine } from './decided.ts'

const process = '0123456789abcdef01'
const time = new Date('2026-01-01T00:00:00.5Z')

function check (requestId: string, filling = ''): Uint8Array {
  return encodeMessage(CheckRequest, { attributes: {
    source: { principal: 'spiffe://own.test/web' }, destination: { principal: 'spiffe://own.test/db' },
    request: { http: { method: 'GET', path: '/a', host: 'db', headers: { 'x-request-id': requestId, filling, cookie: 'secret' } } }
  } })
}

function recordOf (bytes: Uint8Array, sequence: number): DecisionRecord {
  const { request, requestId } = readCheck(bytes, time)
  return new DecisionRecord(process, sequence, request, engine.decide(request), 0.25, requestId)
}

t.test('a request that came as bytes is remembered as it was, though its bytes are used again', t => {
  const log = new DecisionLog({ labels: {}, mask: new Mask([]) })
  const bytes = check('r1')
  const { request, requestId } = readCheck(bytes, time)
  const { id } = log.record(request, engine.decide(request), 0.25, requestId, { encoded: { bytes, read: readCheck } })
  bytes.fill(0)
  const { decisions: [event], remembered } = log.find({ request: 'r1' })
  t.match(event, {
    decision_id: id, custom: { request_id: 'r1' }, result: { allowed: true, rule: 'p/get' }, timestamp: time.toISOString(),
    metrics: { timer_server_handler_ns: 250_000 },
    input: { source: { id: 'spiffe://own.test/web' }, http: { method: 'GET', path: '/a', headers: { 'x-request-id': 'r1' } } }
  })
  t.notMatch(JSON.stringify(event), /secret/, 'masked when it is read')
  t.equal(remembered.since, time.toISOString())
  t.same(log.find({ decision: id }).decisions, [event])
  t.same(log.find({ request: 'r' }).decisions, [], 'an ID is not a part of one')
  t.end()
})

t.test('what is remembered is the newest, be it bytes or objects, long or short', t => {
  const random = new Random(chooseSeed())
  const capacity = 50
  const ring = new DecisionRing(capacity, process)
  const ids: string[] = []
  for (let sequence = 0; sequence < 2_000; sequence++) {
    const id = random.chance(0.1) ? `ü${random.below(500)}` : `r${random.below(500)}`
    ids.push(id)
    const bytes = check(id, 'x'.repeat(random.chance(0.02) ? 100_000 : random.below(3_000)))
    ring.add(recordOf(bytes, sequence), random.chance(0.9) ? { bytes, read: readCheck } : undefined)
    bytes.fill(0xff)
    if (sequence % 10 !== 0) continue
    const first = Math.max(0, sequence + 1 - capacity)
    const expected = ids.map((one, at) => ({ one, at })).filter(({ one, at }) => one === id && at >= first).map(({ at }) => at).toReversed()
    t.same(ring.byRequestId(id).map(record => record.sequence), expected)
    const found = (at: number) => ring.byDecisionId(formatDecisionId(process, at))?.requestId
    t.same([found(first), found(sequence), found(sequence + 1)], [ids[first], id, undefined], `${first} to ${sequence}`)
    if (first > 0) t.equal(found(first - 1), undefined)
  }
  t.end()
})

t.test('large requests are remembered less long, in no more memory than there may be', t => {
  const [capacity, most] = [1_000, 1_000_000]
  const ring = new DecisionRing(capacity, process, most)
  for (let sequence = 0; sequence < 500; sequence++) {
    const bytes = check(`r${sequence}`, 'x'.repeat(10_000))
    ring.add(recordOf(bytes, sequence), { bytes, read: readCheck })
  }
  const remembered = Array.from({ length: 500 }, (_, i) => ring.byDecisionId(formatDecisionId(process, i))).filter(one => one !== undefined)
  t.ok(remembered.length >= 75 && remembered.length <= 100, `${remembered.length} of 10 KB in 1 MB`)
  t.equal(remembered.at(-1)?.requestId, 'r499')
  t.equal(remembered[0]?.sequence, 500 - remembered.length, 'the newest, without holes')
  t.same(ring.byRequestId('r0'), [])
  t.ok(ring.since)

  const bytes = new RequestBytes(capacity, most)
  const random = new Random(chooseSeed())
  let largest = 0
  for (let sequence = 0; sequence < 5_000; sequence++) {
    const length = random.chance(0.05) ? random.below(300_000) : random.below(5_000)
    const chunk = bytes.put(new Uint8Array(length).fill(sequence), sequence)
    largest = Math.max(largest, bytes.size)
    const copy = chunk.bytes.subarray(chunk.used - length, chunk.used)
    if (!copy.equals(Buffer.alloc(length, sequence))) t.fail(`${sequence} was not copied`)
  }
  t.ok(largest <= most, `${largest} of ${most}`)
  t.end()
})

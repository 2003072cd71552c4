import t from 'tap'
import { decisionEvent } from '../../../src/authz/decision-log/decision-event.ts'
import { DecisionLog } from '../../../src/authz/decision-log/decision-log.ts'
import { formatDecisionId, sequenceOf, type DecisionRecord } from '../../../src/authz/decision-log/decision-record.ts'
import { Mask } from '../../../src/authz/decision-log/mask.ts'
import { parseRequestJson, requestJson } from '../../../src/authz/decision-log/request-json.ts'
import { Sampling } from '../../../src/authz/decision-log/sampling.ts'
import type { DecisionSink } from '../../../src/authz/decision-log/sink.ts'
import { Decider } from '../../../src/authz/decider.ts'
import { readCheck } from '../../../src/authz/ext-authz/read-check.ts'
import { encodeMessage } from '../../../src/wire/encode-message.ts'
import { CheckRequest } from '../../../src/wire/generated/envoy-authorization.ts'
import { parseIdMatch, parsePathMatch } from '../../../src/authz/policy/match-text.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'
import { randomRequest } from '../policy/policies-at-random.ts'
import { decided, engine } from './decided.ts'

const settings = { labels: { id: 'node-1', version: '1' }, mask: new Mask([]) }
const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'

t.test('a decision as logs have it', t => {
  const log = new DecisionLog(settings)
  const record = log.record(...decided({ 'x-request-id': 'r1', traceparent, authorization: 'Bearer secret', cookie: 'a=secret',
    'x-env': 'prod' },
  { path: '/a?token=secret' }))
  const event = JSON.parse(JSON.stringify(decisionEvent(record, settings))) as Record<string, unknown>
  t.match(record.id, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-0{12}$/)
  t.same(event, {
    labels: { id: 'node-1', version: '1' }, decision_id: record.id, trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
    span_id: '00f067aa0ba902b7',
    bundles: { assay: { revision: record.decision.revision } }, path: 'assay/authz',
    input: {
      source: { id: 'spiffe://own.test/web', address: '10.0.0.1' }, destination: { id: 'spiffe://own.test/db', port: 80 },
      http: { method: 'GET', path: '/a', host: 'db', headers: { 'x-request-id': 'r1', traceparent, 'x-env': 'prod' } },
      tls: { sni: 'db' }, time: '2026-01-01T00:00:00.500Z'
    },
    result: { allowed: true, reason: 'rule', rule: 'p/get' }, timestamp: '2026-01-01T00:00:00.500Z',
    metrics: { timer_server_handler_ns: 250_000 },
    erased: ['/input/http/headers/authorization', '/input/http/headers/cookie'], custom: { request_id: 'r1' }
  })
  t.notMatch(JSON.stringify(event), /secret/, 'neither tokens nor queries')
  t.equal(record.request.http?.headers.get('authorization'), 'Bearer secret', 'the request itself stays as it is')
  for (const bad of [traceparent.replace('00f067aa0ba902b7', '0'.repeat(16)), `ff${traceparent.slice(2)}`, traceparent.toUpperCase(), 'x',
    `${traceparent}x`]) {
    t.equal(log.record(...decided({ traceparent: bad })).trace, undefined, bad)
  }
  t.ok(log.record(...decided({ traceparent: `01${traceparent.slice(2)}-more` })).trace, 'of a later version, as far as it is known')
  t.end()
})

t.test('a query is in no log, though Envoy sends the path among the headers too', t => {
  const headers = { ':path': '/a?token=secret', ':method': 'GET', 'x-env': 'prod' }
  const http = { method: 'GET', path: '/a?token=secret', host: 'db', headers }
  const { request } = readCheck(encodeMessage(CheckRequest, { attributes: { request: { http } } }), new Date(0))
  const event = decisionEvent(new DecisionLog(settings).record(request, engine.decide(request), 0), settings)
  t.match(event.input.http, { path: '/a', headers: { ':path': '/a', ':method': 'GET', 'x-env': 'prod' } })
  t.notMatch(JSON.stringify(event), /secret/)
  t.equal(request.http?.headers.get(':path'), '/a?token=secret', 'the request itself stays as it is')
  t.end()
})

t.test('masks', t => {
  const mask = new Mask([
    { op: 'remove', path: '/input/http/headers/X-Api-Key' }, { op: 'upsert', path: '/input/http/claims/email', value: '***' },
    { op: 'remove', path: '/input/http/claims/a~1b/c~0d' }, { op: 'remove', path: '/input/source/address' },
    { op: 'remove', path: '/input/http/claims/gone/x' }
  ])
  const claims = { sub: 'me', email: 'me@x.test', 'a/b': { 'c~d': 1, e: 2 } }
  const [request] = decided({ 'x-api-key': 'k', other: 'o' }, { claims })
  t.match(mask.apply(requestJson(request)), {
    input: { source: { address: undefined }, http: { headers: { other: 'o' }, claims: { sub: 'me', email: '***', 'a/b': { e: 2 } } } },
    erased: ['/input/http/headers/x-api-key', '/input/http/claims/a~1b/c~0d', '/input/source/address'], masked: ['/input/http/claims/email']
  })
  t.same(claims, { sub: 'me', email: 'me@x.test', 'a/b': { 'c~d': 1, e: 2 } }, 'the request keeps its claims')
  t.equal(request.source.address, '10.0.0.1')
  for (const path of ['/output/x', 'input/http', '/input', '/input/time', '/input/__proto__/x', '']) {
    t.throws(() => new Mask([{ op: 'remove', path }]), /is no part of a decision's input/, path)
  }
  t.end()
})

t.test('a recorded request is the same when it is read', t => {
  const random = new Random(chooseSeed())
  for (let i = 0; i < 500; i++) {
    const request = randomRequest(random)
    const read = parseRequestJson(JSON.parse(JSON.stringify(requestJson(request))))
    const plain = JSON.stringify(read === undefined ? undefined : requestJson(read))
    if (plain !== JSON.stringify(requestJson(request))) t.equal(plain, JSON.stringify(requestJson(request)))
  }
  const good = requestJson(decided()[0])
  t.ok(parseRequestJson(good))
  for (const bad of [
    null, [], 'x', {}, { ...good, source: undefined }, { ...good, time: 'soon' }, { ...good, destination: { port: 0 } },
    { ...good, http: { method: 'GET' } },
    { ...good, source: { id: 'web' } }, { ...good, http: { ...good.http, headers: { a: 1 } } }, { ...good, tls: { sni: 1 } },
    { ...good, source: { address: 1 } }
  ]) t.equal(parseRequestJson(bad), undefined, JSON.stringify(bad))
  t.end()
})

t.test('the last decisions are found by request and by their own ID', t => {
  const log = new DecisionLog({ ...settings, remembered: 4 })
  const records = Array.from({ length: 10 }, (_, i) => log.record(...decided({ 'x-request-id': `r${Math.floor(i / 2)}`,
    authorization: 'secret' })))
  const ids = (answer: ReturnType<DecisionLog['find']>) => answer.decisions.map(({ decision_id: id }) => id)
  t.same(ids(log.find({ request: 'r4' })), [records[9]?.id, records[8]?.id], 'the newest first')
  t.same(ids(log.find({ request: 'r2' })), [], 'what is older is forgotten')
  t.same(ids(log.find({ decision: records[6]?.id ?? '' })), [records[6]?.id])
  t.same(ids(log.find({ decision: records[6]?.id.toUpperCase() ?? '' })), [records[6]?.id])
  t.same(ids(log.find({ decision: records[5]?.id ?? '' })), [])
  t.same(ids(log.find({ decision: 'nonsense' })), [])
  t.same(ids(log.find({ decision: new DecisionLog(settings).record(...decided()).id })), [], 'another process\'s')
  const known = log.record(...decided({ 'x-request-id': 'x' }), 'known otherwise')
  t.same(ids(log.find({ request: 'known otherwise' })), [known.id])
  t.match(log.find({ request: 'r4' }), { remembered: { capacity: 4, since: '2026-01-01T00:00:00.500Z' } })
  t.notMatch(JSON.stringify(log.find({ request: 'r4' })), /secret/)
  const process = '0123456789abcdef01'
  t.equal(formatDecisionId(process, 2 ** 47), '01234567-89ab-8cde-8f01-800000000000')
  t.equal(sequenceOf(process, '01234567-89ab-8cde-8f01-800000000000'), 2 ** 47)
  t.end()
})

t.test('allowed decisions are sampled, denied ones never', t => {
  const offered: DecisionRecord[] = []
  const sink: DecisionSink = { name: 'test', offer: record => { offered.push(record) }, run: async () => {} }
  const log = new DecisionLog({ ...settings, sinks: [sink], sampling: new Sampling([
    { paths: [parsePathMatch('/health')], keepOneIn: 0 },
    { rule: 'p/get', sources: [parseIdMatch('spiffe://own.test/*')], keepOneIn: 10 },
    { keepOneIn: 1 }
  ]) })
  for (let i = 0; i < 100; i++) log.record(...decided({}, { path: '/health?x' }))
  t.equal(offered.length, 0)
  for (let i = 0; i < 100; i++) log.record(...decided())
  t.equal(offered.length, 10, 'exactly one in ten')
  for (let i = 0; i < 100; i++) log.record(...decided({}, { method: 'POST', path: '/health' }))
  t.equal(offered.length, 110)
  const [request, decision, latency] = decided({}, { path: '/health' })
  log.record(request, { ...decision, shadow: { ...decision, allowed: false } }, latency)
  t.equal(offered.length, 111, 'what shadow rules would deny is kept')
  t.end()
})

t.test('what a decider decided is found by the ID that its caller knows', async t => {
  const log = new DecisionLog(settings)
  const decider = new Decider({
    engine: () => engine, providers: () => undefined, monotonicMs: () => 0,
    onDecided: ({ request, decision, durationMs, requestId }) => { log.record(request, decision, durationMs, requestId) }
  })
  const [request] = decided({}, { method: 'POST' })
  t.match(await decider.decide(request, 'of the proxy', () => ({})), { allowed: false })
  t.match(log.find({ request: 'of the proxy' }).decisions, [{
    result: { allowed: false, reason: 'no-rule-allows' }, custom: { request_id: 'of the proxy' }, input: { http: { method: 'POST' } }
  }])
})

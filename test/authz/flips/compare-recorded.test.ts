import t from 'tap'
import type { DecisionEvent } from '../../../src/authz/decision-log/decision-event.ts'
import { RecordedComparison, type FlipReport } from '../../../src/authz/flips/compare-recorded.ts'
import { Mask } from '../../../src/authz/decision-log/mask.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { readPolicies } from '../../../src/authz/policy/read-policies.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'
import { BruteForce, randomChange, recordedAtRandom } from './record-at-random.ts'

function countsOf ({ flips }: FlipReport): Map<string, number> {
  return new Map(flips.map(({ source, destination, operation, before, after, count }) =>
    [[source, destination, operation, before, after].join(', '), count]))
}
const sorted = (counts: ReadonlyMap<string, number>) => [...counts].toSorted(([a], [b]) => a < b ? -1 : 1)

t.test('recorded requests flip as a walk over all rules says, with counts', t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  const random = new Random(seed)
  let flips = 0
  for (let round = 0; round < 40; round++) {
    const { before, after } = randomChange(random)
    const comparison = new RecordedComparison(before, after)
    const brute = new BruteForce(before, after)
    for (const { request, event } of recordedAtRandom(random, new PolicyEngine(before), 100)) {
      comparison.add(JSON.parse(JSON.stringify(event)) as DecisionEvent)
      brute.add(request)
    }
    const report = comparison.report()
    if (JSON.stringify(sorted(countsOf(report))) !== JSON.stringify(sorted(brute.counts))) {
      t.same(sorted(countsOf(report)), sorted(brute.counts), `round ${round}`)
    }
    t.match(report, { compared: 100, masked: 0, unreadable: 0, differsFromLog: 0, untold: 0 })
    flips += report.flips.length
  }
  t.ok(flips > 200, `${flips} flips`)
  t.end()
})

const document = (rules: object[]) => readPolicies([{ name: 'test', text: JSON.stringify([
  { apiVersion: 'assay/v1', kind: 'Settings', trustDomain: 'own.test', defaultAction: 'deny' },
  { apiVersion: 'assay/v1', kind: 'Policy', name: 'p', rules }
]) }])
const event = (id: string, http: object | undefined, more: object = {}) => ({
  decision_id: id, custom: {}, result: { allowed: true, reason: 'rule' }, timestamp: '2026-01-01T00:00:00.000Z',
  input: { source: { id: 'spiffe://own.test/web' }, destination: { id: 'spiffe://own.test/db', port: 80 }, http,
    time: '2026-01-01T00:00:00.000Z' },
  ...more
}) as unknown as DecisionEvent
const get = (path: string, headers = {}) => ({ method: 'GET', path, host: 'db', headers })

t.test('what was masked is compared unless a rule asks about it', t => {
  const plain = document([{ name: 'a', action: 'allow' }])
  const asking = document([{ name: 'a', action: 'allow', to: [{ headers: [{ name: 'X-Key', values: ['1'] }] }] }])
  const erased = { erased: ['/input/http/headers/x-key'] }
  const report = (after: typeof plain, ...events: DecisionEvent[]) => {
    const comparison = new RecordedComparison(plain, after)
    for (const one of events) comparison.add(one)
    return comparison.report()
  }
  t.match(report(plain, event('1', get('/'), erased)), { compared: 1, masked: 0 })
  t.match(report(asking, event('1', get('/'), erased)), { compared: 0, masked: 1, flips: [] }, 'without it the answer would be made up')
  t.match(report(asking, event('1', get('/'), { masked: ['/input/http/headers'] })), { masked: 1 }, 'nor when more than that was masked')
  const { input, erased: pointers } = new Mask([{ op: 'remove', path: '/input/http/headers/X-KEY' }]).apply(
    { source: {}, destination: {}, http: get('/', { 'x-key': '1' }), time: '2026-01-01T00:00:00.000Z' })
  t.match(report(asking, { ...event('1', undefined), input, erased: pointers }), { masked: 1 }, 'in whatever letters the mask names it')
  t.match(report(asking, event('1', get('/'), { erased: ['/input/http/headers/x-other'] })), { compared: 1, masked: 0, flipped: 1 })
  t.match(report(plain, event('1', get('/'), { erased: ['/input/http/path'] })), { masked: 1 }, 'a flip without its path could not be told')
  t.end()
})

t.test('flips', t => {
  const before = document([{ name: 'all', action: 'allow' }])
  const after = document([{ name: 'some', action: 'allow', to: [{ paths: ['/a'] }] },
    { name: 'ask', action: 'custom', provider: 'opa', to: [{ paths: ['/a'] }] }])
  const comparison = new RecordedComparison(before, after, { mostFlips: 3 })
  for (const path of ['/b', '/b?x=1', '/b', '/b', '/a', '/%62', '/c', '/d', '/d']) comparison.add(event(`id of ${path}`, get(path)))
  comparison.add(event('tcp', undefined))
  comparison.add(event('denied', get('/b'), { result: { allowed: false } }))
  comparison.add(undefined)
  comparison.add(event('no path', { method: 'GET' }))
  const report = comparison.report()
  t.match(report, { compared: 11, flipped: 11, unreadable: 2, differsFromLog: 1, untold: 3 })
  t.match(report.flips, [
    { operation: 'GET /b on 80', before: 'allow', after: 'deny', ruleBefore: 'p/all', ruleAfter: 'no-rule-allows', count: 6,
      source: 'spiffe://own.test/web', destination: 'spiffe://own.test/db', examples: ['id of /b', 'id of /b?x=1', 'id of /b'] },
    { operation: 'GET /a on 80', before: 'allow', after: 'ask opa', count: 1 },
    { operation: 'GET /c on 80', count: 1 }
  ], 'needless escapes and queries make no other operation; what has no room is counted')
  t.end()
})

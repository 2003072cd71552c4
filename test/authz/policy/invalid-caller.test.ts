import type { IncomingMessage } from 'node:http'
import t from 'tap'
import { requestOfInput } from '../../../src/authz/data-api/input-request.ts'
import { Decider } from '../../../src/authz/decider.ts'
import { parseRequestJson, requestJson } from '../../../src/authz/decision-log/request-json.ts'
import { answerHttpCheck } from '../../../src/authz/ext-authz/http-flavour.ts'
import { readCheck } from '../../../src/authz/ext-authz/read-check.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { refusals } from '../../../src/authz/rbac/federation.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { encodeMessage } from '../../../src/wire/encode-message.ts'
import { CheckRequest } from '../../../src/wire/generated/envoy-authorization.ts'
import { holdsOf } from '../rbac/formula-in-node.ts'
import { policiesOf } from '../rbac/policies-of.ts'

const destination = parseSpiffeId('spiffe://own.test/db')
const time = new Date('2026-06-01T12:00:00Z')
/** Envoy believes the bundle of `far.test`; nothing lets its callers in. */
const set = policiesOf([
  { name: 'any', action: 'allow' }, { name: 'not-bad', action: 'deny', from: [{ ids: ['spiffe://far.test/bad/*'] }] }
])
const engine = new PolicyEngine(set)

/** What an authority can write into a certificate that Envoy takes for one of `far.test`. */
const invalid = ['spiffe://far.test//api', 'spiffe://far.test/', 'spiffe://far.test/a b', 'spiffe://far.test/bad/../x',
  'spiffe://far.test/x?y', `spiffe://far.test/${'x'.repeat(3_000)}`]

t.test('who shows a name that begins as a SPIFFE ID and is none is not let in as somebody without a name', async t => {
  const decider = new Decider({ engine: () => engine, providers: () => undefined, monotonicMs: () => 0 })
  const asked = (principal: string) => readCheck(encodeMessage(CheckRequest, {
    attributes: { source: { principal }, destination: { principal: destination } }
  }), time).request
  const overHttp = async (principal: string) => (await answerHttpCheck(decider, {
    method: 'GET', url: '/', headers: { 'host': 'db', 'x-assay-source': principal, 'x-assay-destination': destination }
  } as unknown as IncomingMessage, time)).status
  t.ok(engine.decide(asked('')).allowed, 'without a certificate the rule lets in')
  t.ok(engine.decide(asked('CN=x')).allowed, 'and so it does without a SPIFFE ID')
  t.match(engine.decide(asked('spiffe://far.test/api')), { allowed: false, reason: 'federation', rule: 'federation/far.test' })
  const { refusals: told } = refusals(set, destination, { now: time })
  for (const principal of invalid) {
    const label = principal.slice(0, 40)
    t.match(engine.decide(asked(principal)), { allowed: false, reason: 'federation', rule: 'federation' }, label)
    t.equal(await overHttp(principal), 403, `over HTTP: ${label}`)
    const input = requestOfInput({ attributes: { source: { principal }, destination: { principal: destination } } }, time)
    t.match(engine.decide(input), { allowed: false }, `the Data API: ${label}`)
    t.ok(told.some(({ when }) => holdsOf(when, principal)), `as Envoy is told: ${label}`)
  }
  for (const principal of ['SPIFFE://own.test/web', 'spiffe:own.test/web', 'spiffe://own.test/web,spiffe://far.test/x']) {
    t.notOk(engine.decide(asked(principal)).allowed, principal)
  }
  t.ok((asked(`spiffe://far.test/${'x'.repeat(3_000)}`).source.invalidId ?? '').length <= 256, 'of a long one its begin is kept')
  const again = parseRequestJson(JSON.parse(JSON.stringify(requestJson(asked('spiffe://far.test//api')))))
  t.same(again?.source, { invalidId: 'spiffe://far.test//api' }, 'logs tell it, and it is decided again alike')
  t.equal(parseRequestJson({ source: { invalidId: 7 }, destination: {}, time: time.toISOString() }), undefined)
})

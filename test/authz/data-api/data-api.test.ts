import t from 'tap'
import { DataApi } from '../../../src/authz/data-api/data-api.ts'
import { requestOfInput } from '../../../src/authz/data-api/input-request.ts'
import { Decider, type DecisionFacts } from '../../../src/authz/decider.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { readPolicies } from '../../../src/authz/policy/read-policies.ts'

const text = JSON.stringify([
  { apiVersion: 'assay/v1', kind: 'Settings', trustDomain: 'a.test', defaultAction: 'deny' },
  { apiVersion: 'assay/v1', kind: 'Policy', name: 'p', rules: [
    {
      name: 'read', action: 'allow', from: [{ ids: ['spiffe://a.test/web'] }],
      to: [{ methods: ['GET'], headers: [{ name: 'X-Team', values: ['a'] }] }]
    },
    { name: 'seen', action: 'audit' },
    { name: 'asked', action: 'custom', provider: 'fake', to: [{ paths: ['/asked'] }] }
  ] }
])
const now = new Date('2026-01-01T12:00:00Z')
const web = {
  source: { id: 'spiffe://a.test/web' }, destination: { id: 'spiffe://a.test/db', port: 80 },
  http: { method: 'GET', path: '/x', headers: { 'X-TEAM': 'a' } }
}

function open (options: { fake?: boolean | 'broken', dryRun?: boolean, problems?: string[] } = {}) {
  const recorded: DecisionFacts[] = []
  const engine = new PolicyEngine(readPolicies([{ name: 'p.json', text }]))
  const providers = new Map([['fake', async () => {
    if (options.fake === 'broken') throw new Error('boom')
    return { allowed: options.fake === true }
  }]])
  const decider = new Decider({
    engine: () => engine,
    providers: name => providers.get(name),
    dryRun: options.dryRun,
    monotonicMs: () => 0,
    onDecided: facts => { recorded.push(facts) }
  })
  const api = new DataApi({
    decider,
    clock: { now: () => now, monotonicMs: () => 0 },
    policies: () => [{ name: 'p.json', text }],
    problems: () => options.problems ?? []
  })
  const post = async (path: string, input: unknown) => api.answer('POST', path, Buffer.from(JSON.stringify({ input })))
  const result = async (path: string, input: unknown) => ((await post(path, input)).body as { result?: unknown }).result
  return { api, post, result, recorded }
}

t.test('the rules\' decision is a document', async t => {
  const { result, recorded } = open()
  const whole = await result('/v1/data/assay/authz', web) as Record<string, unknown>
  t.match(whole, { allow: true, reason: 'rule', rule: 'p/read', audits: ['p/seen'], revision: /^[0-9a-f]{64}$/ })
  t.equal(await result('/v1/data/assay/authz/allow', web), true)
  t.equal(await result('/v1/data/assay/authz/allow', { ...web, source: {} }), false)
  t.equal(await result('/v1/data/assay/authz/nothing', web), undefined)
  t.equal(await result('/v1/data/other', web), undefined)
  t.equal(recorded.length, 4, 'each decision is recorded')
})

t.test('the input of OPA\'s Envoy plugin', async t => {
  const { result } = open()
  const attributes = {
    source: { principal: 'spiffe://a.test/web', address: { socketAddress: { address: '10.0.0.1', portValue: 5 } } },
    destination: { principal: 'spiffe://a.test/db' },
    request: { http: { method: 'GET', path: '/x', host: 'db', headers: { 'x-team': 'a' } } }
  }
  t.equal(await result('/v1/data/assay/authz/allow', { attributes, parsed_path: ['x'], version: { encoding: 'protojson' } }), true)
  t.equal(await result('/v1/data/assay/authz/allow', { attributes: { ...attributes, source: { principal: 'CN=web' } } }), false)
  const tokens = (...subjects: string[]) => requestOfInput({ attributes: { ...attributes, metadataContext: { filterMetadata: {
    'envoy.filters.http.jwt_authn': Object.fromEntries(subjects.map((sub, i) => [`t${i}`, { iss: 'i', sub }]))
  } } } }, now).http
  t.match([tokens('a'), tokens('a', 'b'), tokens()],
    [{ claims: { sub: 'a' } }, { claims: undefined, severalTokens: true }, { claims: undefined }], 'with the claims that Envoy verified')
})

t.test('GET, metrics, and what is not offered', async t => {
  const { api } = open()
  const answer = await api.answer('GET', `/v1/data/assay/authz/allow?metrics&input=${encodeURIComponent(JSON.stringify(web))}`, Buffer.of())
  t.match(answer, { status: 200, body: { result: true, decision_id: /^[0-9a-f-]{36}$/, metrics: { timer_server_handler_ns: 0 } } })
  t.equal((await api.answer('PUT', '/v1/data/x', Buffer.of())).status, 405)
  t.equal((await api.answer('PUT', '/v1/policies/x', Buffer.of())).status, 405)
  t.equal((await api.answer('GET', '/v2/data', Buffer.of())).status, 404)
  t.same((await api.answer('GET', '/v1/policies', Buffer.of())).body, { result: [{ id: 'p.json', raw: text }] })
  t.same((await api.answer('GET', '/v1/policies/p.json', Buffer.of())).body, { result: { id: 'p.json', raw: text } })
  t.equal((await api.answer('GET', '/v1/policies/q', Buffer.of())).status, 404)
  t.equal((await api.answer('GET', '/health', Buffer.of())).status, 200)
  t.equal((await open({ problems: ['broken'] }).api.answer('GET', '/health', Buffer.of())).status, 500)
})

t.test('malformed input is the caller\'s mistake, and says which', async t => {
  const { api, post } = open()
  const broken: Record<string, unknown> = {
    'an unknown key': { sorce: {} }, 'no SPIFFE ID': { source: { id: 'web' } }, 'a port out of range': { destination: { port: 70_000 } },
    'no object': [], 'a header that is no text': { http: { method: 'GET', path: '/', headers: { a: 1 } } }
  }
  for (const [what, input] of Object.entries(broken)) {
    t.match(await post('/v1/data/assay/authz', input), { status: 400, body: { code: 'invalid_parameter' } }, what)
  }
  for (const body of ['{', '{"input": {}, "input": {}}', '[]', '"x"']) {
    t.equal((await api.answer('POST', '/v1/data/assay/authz', Buffer.from(body))).status, 400, body)
  }
  t.equal((await api.answer('GET', '/v1/data/%zz', Buffer.of())).status, 400)
  for (const target of ['//', '//[', '//v1/data/assay/authz', '/\\', '*', 'http://']) {
    const { status } = await api.answer('GET', target, Buffer.of())
    t.ok(status === 400 || status === 404, `${target} is no bug of ours, and no other host: ${status}`)
  }
  t.equal((await api.answer('GET', 'http://data.test/v1/data/assay/authz', Buffer.of())).status, 200, 'as it is asked of a proxy')
})

t.test('who is asked besides has the last word, or nobody is let in', async t => {
  const asked = { ...web, http: { ...web.http, path: '/asked' } }
  t.match(await open({ fake: true }).result('/v1/data/assay/authz', asked), { allow: true, rule: 'p/read' })
  t.match(await open({ fake: false }).result('/v1/data/assay/authz', asked), { allow: false, reason: 'custom', rule: 'p/asked' })
  await t.rejects(open({ fake: 'broken' }).result('/v1/data/assay/authz', asked))
})

t.test('a dry run lets everybody in and records what it would have done', async t => {
  const { result, recorded } = open({ dryRun: true })
  t.equal(await result('/v1/data/assay/authz/allow', { ...web, source: {} }), true)
  t.same(recorded.map(({ decision }) => decision.allowed), [false])
})

import t from 'tap'
import { parseAgentConfig } from '../../src/agent/agent-config.ts'
import { decisionsHandlers } from '../../src/agent/agent-decisions.ts'
import type { NodePolicyState } from '../../src/agent/node-policies.ts'
import { recordProxyDecision } from '../../src/agent/proxy-decisions.ts'
import { DecisionLog } from '../../src/authz/decision-log/decision-log.ts'
import { Mask } from '../../src/authz/decision-log/mask.ts'
import { PolicyEngine } from '../../src/authz/policy/policy-engine.ts'
import { readPolicies } from '../../src/authz/policy/read-policies.ts'
import type { AuthzRequest } from '../../src/authz/policy/request.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import type { FindDecisionsResponse } from '../../src/wire/generated/agent-sync.ts'
import { fakeCall } from '../fakes/call-context.ts'

const set = readPolicies([{ name: 'test', text: `apiVersion: assay/v1
kind: Settings
trustDomain: own.test
defaultAction: allow
---
apiVersion: assay/v1
kind: Policy
name: p
rules:
- { name: seen, action: audit, to: [{ methods: [GET] }] }
- { name: header, action: deny, to: [{ headers: [{ name: x-bad, values: ['1'] }] }] }
- { name: get, action: allow, to: [{ methods: [GET] }] }
- { name: raw, action: allow, to: [{ ports: [9000] }] }
` }])
const state: NodePolicyState = { kind: 'set', version: 7, revision: set.revision, engine: new PolicyEngine({ ...set, revision: '7-x' }) }

function requestOf (method: string | undefined, more: Partial<AuthzRequest> = {}): AuthzRequest {
  return {
    source: { id: parseSpiffeId('spiffe://own.test/web') },
    destination: { id: parseSpiffeId('spiffe://own.test/db'), port: 9000 },
    http: method === undefined ? undefined : { method, path: '/', host: 'db', headers: new Map() },
    time: new Date('2026-01-01T00:00:00Z'), ...more
  }
}

function lab (decisions: 'refused' | 'all', policies: NodePolicyState = state) {
  const log = new DecisionLog({ labels: { node: 'n' }, mask: new Mask([]), remembered: 50 })
  const tell = (request: AuthzRequest, allowed: boolean, rule?: string) => {
    recordProxyDecision({ request, requestId: 'r', allowed, rule }, { policies: { state: policies }, log, decisions })
    return log.find({ request: 'r' }).decisions
  }
  return { log, tell }
}

t.test('what a proxy decided: the agent says more where both agree, and nothing else where they do not', async t => {
  const get = requestOf('GET')
  t.match(lab('all').tell(get, true, 'p/get'), [{
    result: { allowed: true, reason: 'rule', rule: 'p/get', audits: ['p/seen'] }, bundles: { assay: { revision: '7-x' } },
    erased: ['/input/http/headers'], custom: { decided_by: 'proxy' }
  }])
  t.match(lab('all').tell(get, false, 'p/header'), [{ result: { allowed: false, reason: 'rule', rule: 'p/header', audits: undefined } }],
    'by a header that was not told')
  t.match(lab('all').tell(get, false), [{ result: { allowed: false, reason: 'no-rule-allows', rule: undefined } }])
  t.match(lab('all').tell(get, true), [{ result: { allowed: true, rule: 'p/get' } }], 'of a filter that names no rule')
  const foreign = requestOf('GET', { source: { id: parseSpiffeId('spiffe://far.test/x') } })
  for (const rule of ['federation', 'federation/far.test']) {
    t.match(lab('all').tell(foreign, false, rule), [{ result: { reason: 'federation', rule: 'federation/far.test' } }], rule)
  }
  t.match(lab('all').tell(requestOf('GET', { source: {} }), false, 'several-uri-sans'), [{ result: { reason: 'federation' } }])
  t.match(lab('refused', { kind: 'unknown' }).tell(get, false), [{ result: { allowed: false, reason: 'no-rule-allows' } }],
    'before anybody knows of policies')
})

t.test('which decisions are written down', async t => {
  t.strictSame(lab('refused').tell(requestOf('GET'), true, 'p/get'), [], 'none that was let in, unless they are asked for')
  t.equal(lab('refused').tell(requestOf('PUT'), false).length, 1)
  const tcp = requestOf(undefined)
  const rules = set.rules.filter(({ name }) => name !== 'p/header')
  const open: NodePolicyState = { ...state, engine: new PolicyEngine({ ...set, rules }) }
  t.match(lab('all', open).tell(tcp, true), [{ result: { rule: 'p/raw' }, erased: undefined }], 'of bytes all that can be known is told')
  t.match(lab('all').tell(tcp, false, 'p/header'), [{ result: { rule: 'p/header' } }])
  t.strictSame(lab('all', open).tell(tcp, false), [], 'no connection that the lists of callers refused: no policy did')
})

t.test('FindDecisions: by one of two IDs, and never more than fits', async t => {
  const { log } = lab('all')
  const handlers = decisionsHandlers(log)
  const find = async (which: { requestId?: string, decisionId?: string }) =>
    await handlers.findDecisions({ requestId: '', decisionId: '', ...which }, fakeCall()) as FindDecisionsResponse
  for (const wrong of [{}, { requestId: 'r', decisionId: 'd' }]) await t.rejects(find(wrong), { code: 'argument_invalid' })
  t.strictSame(await find({ requestId: 'r' }), { events: [], capacity: 50, since: '' })
  const request = requestOf('GET', { http: { method: 'GET', path: `/${'x'.repeat(60_000)}`, host: 'db', headers: new Map() } })
  for (let n = 0; n < 50; n++) {
    recordProxyDecision({ request, requestId: 'r', allowed: true, rule: undefined }, { policies: { state }, log, decisions: 'all' })
  }
  const { events, since } = await find({ requestId: 'r' })
  t.ok(events.length > 10 && events.length < 18, 'of one ID that is sent again and again, the newest')
  t.equal(since, '2026-01-01T00:00:00.000Z')
  const { decision_id: decisionId } = JSON.parse(events[3] ?? '{}') as { decision_id: string }
  t.strictSame((await find({ decisionId })).events, [events[3]])
})

t.test('its keys', async t => {
  const configOf = (decisions: object) => parseAgentConfig({ file: { name: 'agent.json', text: JSON.stringify({
    agent: { trust_domain: 'example.org', server_addresses: ['127.0.0.1:8081'], insecure_bootstrap: true },
    mesh: { decision_log: decisions }
  }) } }).mesh
  t.match(configOf({}), {
    decisions: { proxy: 'refused', recording: { remembered: 10_000, file: undefined, mask: [] } },
    settings: { reports: { decisions: 'refused', socketPath: '/tmp/assay-agent/private/xds.sock' } }
  })
  t.equal(configOf({ proxy: 'none' })?.settings.reports, undefined)
  t.match(configOf({ upload_url: 'https://opa/', mask: ['/input/http/headers/x-user'] })?.decisions.recording, {
    uploadUrl: 'https://opa/', mask: [{ op: 'remove', path: '/input/http/headers/x-user' }]
  })
  const refused = { proxy: 'some', remembered: 0, upload_url: 'file:///x', otlp_logs_url: 'collector:4318', mask: ['/result'], color: 'red' }
  for (const [key, value] of Object.entries(refused)) {
    t.throws(() => configOf({ [key]: value }), { code: 'config_invalid', message: /mesh\.decision_log/ }, key)
  }
})

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { runAgent } from '../../src/agent/agent.ts'
import { NodePolicies, type PushedPolicies } from '../../src/agent/node-policies.ts'
import { readPolicySet } from '../../src/authz/policy/read-policy-set.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { selectorListKey } from '../../src/spiffe/selected-ids.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { applyPolicies } from '../fakes/apply-policies.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { policyText, selectorPolicyText } from '../fakes/policies.ts'
import { startTestServer } from '../fakes/server.ts'

const trustDomain = parseTrustDomain('example.org')
const db = parseSpiffeId('spiffe://example.org/db')
const newPolicies = (log = silentLogger) => new NodePolicies({ trustDomain, foreign: [] }, log)

/** Whether somebody is let into the database. */
function decide ({ state }: NodePolicies, path: string): boolean | string {
  if (state.kind !== 'set') return state.kind
  return state.engine.decide({ source: { id: parseSpiffeId(`spiffe://example.org${path}`) }, destination: { id: db }, time: new Date(0) }).allowed
}

function pushed (version: number, texts: readonly string[], selected: PushedPolicies['selected'] = new Map()): PushedPolicies {
  const named = texts.map((text, index) => ({ name: `${index}`, text }))
  return { version, revision: readPolicySet(named, { trustDomain, foreign: [] }).revision, texts: named, selected }
}

t.test('an agent decides by the active set, follows its selectors, and goes on with it after a restart without servers', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-policies-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const server = await startTestServer()
  const policies = newPolicies()
  const agent = await startTestAgent(server, { folder, policies })
  await eventually('there are none', () => policies.state.kind === 'none')
  await applyPolicies(server.admin, [selectorPolicyText('db', 'unix:uid:7')])
  await eventually('they have come', () => policies.state.kind === 'set')
  t.strictSame([decide(policies, '/web'), policies.report.refusal], [false, ''])
  await server.admin.client(entryService).batchCreateEntry({ entries: [{
    spiffeId: { trustDomain: 'example.org', path: '/web' }, parentId: { trustDomain: 'example.org', path: agent.path },
    selectors: [{ type: 'unix', value: 'uid:7' }]
  }] })
  await eventually('an entry has the selector', () => decide(policies, '/web') === true)
  t.equal(decide(policies, '/other'), false)
  t.match(policies.state, { kind: 'set', version: 1 }, 'of the same version')

  await agent[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
  const again = newPolicies()
  const stop = new AbortController()
  const ended = runAgent(agent.config, stop.signal, { log: silentLogger, policies: again })
  await eventually('it goes on with what it knew', () => again.state.kind === 'set')
  t.strictSame([decide(again, '/web'), decide(again, '/other')], [true, false])
  t.match(again.report, { version: 1, refusal: '' })
  stop.abort()
  await ended
})

t.test('of a set that cannot be compiled the last good one stays, and it is said', async t => {
  const { log, lines } = capturedLog()
  const policies = newPolicies(log)
  t.equal(decide(policies, '/web'), 'unknown', 'nobody has said yet that there are none')
  policies.take({ kind: 'whole', pushed: pushed(1, [policyText('db')]) })
  t.strictSame([decide(policies, '/web'), decide(policies, '/other')], [true, false])
  const good = policies.good
  const text = policyText('db').replace('assay/v1', 'assay/v9')
  const newer = { version: 2, revision: 'x', texts: [{ name: 'a', text }], selected: new Map() }
  policies.take({ kind: 'whole', pushed: newer })
  t.strictSame([decide(policies, '/web'), policies.good], [true, good])
  t.match(policies.report, { version: 1, refusal: /^version 2: a:2: kind: must be/ })
  t.match(lines.at(-1), { level: 'error', version: 2, served: 1, code: 'policy_malformed' })
  policies.take({ kind: 'selected', version: 2, changes: new Map() })
  t.match(policies.report, { version: 1, refusal: /^version 2/ }, 'a change of what is refused does not make it good')
  policies.take({ kind: 'whole', pushed: { ...pushed(3, [policyText('db')]), revision: 'another' } })
  t.match(policies.report, { version: 1, refusal: /^version 3: the texts are not those of their revision$/ })
  policies.take({ kind: 'whole', pushed: pushed(4, [selectorPolicyText('db', 'unix:uid:7')]) })
  t.match(policies.report, { version: 1, refusal: /who has the selectors unix:uid:7$/ }, 'nobody says whom it means')
  policies.take({ kind: 'whole', pushed: pushed(5, [policyText('db', { from: 'spiffe://example.org/other' })]) })
  t.strictSame([decide(policies, '/web'), decide(policies, '/other')], [false, true])
  t.strictSame({ version: policies.report.version, refusal: policies.report.refusal }, { version: 5, refusal: '' })
})

t.test('who is meant by selectors changes without the documents', async t => {
  const policies = newPolicies()
  const key = selectorListKey(['unix:uid:7'])
  const ids = (...paths: string[]) => new Set(paths.map(path => parseSpiffeId(`spiffe://example.org${path}`)))
  policies.take({ kind: 'whole', pushed: pushed(1, [selectorPolicyText('db', 'unix:uid:7')], new Map([[key, ids('/a')]])) })
  const seen: unknown[] = []
  const stop = new AbortController()
  const watching = (async () => {
    for await (const state of policies.watch(stop.signal)) {
      seen.push(state.kind)
      if (seen.length === 2) stop.abort()
    }
  })()
  policies.take({ kind: 'selected', version: 1, changes: new Map([[key, { ids: ids('/b'), removedIds: ids('/a') }]]) })
  t.strictSame([decide(policies, '/a'), decide(policies, '/b')], [false, true])
  stop.abort()
  await watching
  t.ok(seen.length > 0)
  t.throws(() => policies.take({ kind: 'selected', version: 2, changes: new Map() }), { code: 'message_malformed' })
  policies.presumeNone()
  t.equal(decide(policies, '/b'), true, 'a server that knows no policies takes none away')
  policies.take({ kind: 'whole', pushed: { version: 0, revision: '', texts: [], selected: new Map() } })
  t.equal(decide(policies, '/b'), 'none')
  const fresh = newPolicies()
  fresh.presumeNone()
  t.equal(decide(fresh, '/b'), 'none')
})

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openNodeAuthorization } from '../../src/agent/node-authorization.ts'
import { NodePolicies } from '../../src/agent/node-policies.ts'
import type { DecisionFacts } from '../../src/authz/decider.ts'
import { readPolicySet } from '../../src/authz/policy/read-policy-set.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { policyService } from '../../src/wire/generated/policy.ts'
import { authorizationService } from '../../src/wire/generated/envoy-authorization.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { applyPolicies } from '../fakes/apply-policies.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'
import { askingText, bundleText, ordersBundle, ordersOf } from '../authz/rego/pushed.ts'

const trustDomain = parseTrustDomain('example.org')

/** Asks the agent's authorizer as the node's Envoy does. */
async function authorizerOf (t: Test, policies: NodePolicies) {
  const folder = await mkdtemp(join(tmpdir(), 'assay-rego-'))
  const path = join(folder, 'authz.sock')
  const decided: DecisionFacts[] = []
  const authorization = await openNodeAuthorization({
    policies, path, takeOver: false, clock: systemClock, log: silentLogger, onDecided: facts => decided.push(facts)
  })
  const channel = openUnixChannel(path)
  t.teardown(async () => {
    await channel[Symbol.asyncDispose]()
    await authorization[Symbol.asyncDispose]()
    await rm(folder, { recursive: true })
  })
  return {
    decided,
    async ask (tier: string, { path = '/x', caller = 'web' } = {}) {
      const { status, deniedResponse } = await channel.client(authorizationService).check({ attributes: {
        source: { principal: `spiffe://example.org/${caller}` },
        request: { http: { method: 'GET', path, host: 'db', headers: { 'x-tier': tier, ':method': 'GET', ':path': path } } }
      } }, { metadata: { 'assay-destination': 'spiffe://example.org/db' } })
      return status?.code === 0 ? 'allowed' : deniedResponse?.body
    }
  }
}

t.test('Rego that the server pushes decides at the agent\'s authorizer, after the rules, and is called by its revision', async t => {
  await using server = await startTestServer()
  const policies = new NodePolicies({ trustDomain, foreign: [] }, silentLogger)
  await using scope = new AsyncDisposableStack()
  scope.use(await startTestAgent(server, { policies }))
  await applyPolicies(server.admin, [askingText(), bundleText(ordersBundle)])
  await eventually('it has come', () => policies.state.kind === 'set')
  const authorizer = await authorizerOf(t, policies)
  t.equal(await authorizer.ask('gold'), 'allowed')
  t.equal(await authorizer.ask('iron'), 'not for you\n', 'Rego refuses what rules let in')
  t.equal(await authorizer.ask('gold', { path: '/denied' }), 'denied by policy\n', 'and lets nothing in that a rule denies')
  t.equal(await authorizer.ask('gold', { caller: 'other' }), 'denied by policy\n', 'or that none allows')
  t.strictSame(authorizer.decided.map(({ decision: { allowed, reason, rule, bundles } }) => [allowed, reason, rule, bundles]), [
    [true, 'rule', 'db/web', new Map([['orders', 'orders-1']])], [false, 'custom', 'db/tiers', new Map([['orders', 'orders-1']])],
    [false, 'rule', 'db/not', undefined], [false, 'no-rule-allows', undefined, undefined]
  ])

  await applyPolicies(server.admin, [askingText(), bundleText(await ordersOf('orders-2', ['iron']))], { replaces: 1n })
  await eventually('the second one', () => policies.report.version === 2)
  t.strictSame([await authorizer.ask('gold'), await authorizer.ask('iron')], ['not for you\n', 'allowed'])
  t.same(authorizer.decided.at(-1)?.decision.bundles, new Map([['orders', 'orders-2']]))
  const client = server.admin.client(policyService)
  await t.rejects(applyPolicies(server.admin, [askingText('rego/orders/gone'), bundleText(ordersBundle)], { replaces: 2n }),
    { code: 'policy_unsupported' }, 'what agents could not answer is refused at the server')
  const damaged = [bundleText(Buffer.from('x'))]
  await t.rejects(applyPolicies(server.admin, damaged, { replaces: 2n, dryRun: true }), { code: 'rego_bundle_invalid' })
  await client.rollbackPolicies({ version: 1n, replaces: 2n })
  await eventually('the first one again', () => policies.report.version === 3)
  t.strictSame([await authorizer.ask('gold'), await authorizer.ask('iron')], ['allowed', 'not for you\n'])
})

t.test('of Rego that cannot be opened the last good one stays; the newest counts, whatever was opened meanwhile', async t => {
  await using policies = new NodePolicies({ trustDomain, foreign: [] }, silentLogger)
  const push = (version: number, ...texts: string[]) => {
    const named = texts.map((text, index) => ({ name: `${index}`, text }))
    const { revision } = readPolicySet(named, { trustDomain, foreign: [] })
    policies.take({ kind: 'whole', pushed: { version, revision, texts: named, selected: new Map() } })
  }
  push(1, askingText(), bundleText(ordersBundle))
  t.equal(policies.state.kind, 'unknown', 'nobody is let in before it is open')
  await policies.settled()
  t.match(policies.report, { version: 1, refusal: '' })
  const { authorizer, state } = { authorizer: await authorizerOf(t, policies), state: policies.state }
  push(2, askingText(), bundleText(Buffer.from('x')))
  await policies.settled()
  t.match(policies.report, { version: 1, refusal: /^version 2: RegoBundle orders: / })
  t.equal(policies.state, state)
  t.equal(await authorizer.ask('gold'), 'allowed')

  push(3, askingText(), bundleText(await ordersOf('three', ['iron'])))
  push(4, askingText(), bundleText(await ordersOf('four', ['tin'])))
  await policies.settled()
  t.match(policies.report, { version: 4, refusal: '' })
  t.strictSame([await authorizer.ask('iron'), await authorizer.ask('tin')], ['not for you\n', 'allowed'])
  const rego = policies.state.kind === 'set' ? policies.state.rego : undefined
  const scope = '{"apiVersion": "assay/v1", "kind": "FederationScope", "trustDomain": "a.test"}'
  push(5, askingText(), bundleText(await ordersOf('four', ['tin'])), scope)
  t.match(policies.state, { version: 5 }, 'the same Rego is not opened again')
  t.equal(policies.state.kind === 'set' && policies.state.rego, rego)
  push(6, askingText())
  await t.rejects(authorizer.ask('tin'), { code: 'provider_failed' }, 'nobody answers for Rego that is not there')
  push(7, askingText().replace('"custom"', '"audit"').replace(',"provider":"rego/orders/allow"', ''))
  t.equal(await authorizer.ask('tin'), 'allowed')
})

import t from 'tap'
import { Decider, type DecisionFacts, type Providers, type Verdict } from '../../src/authz/decider.ts'
import { decisionEvent } from '../../src/authz/decision-log/decision-event.ts'
import { DecisionRecord } from '../../src/authz/decision-log/decision-record.ts'
import { Mask } from '../../src/authz/decision-log/mask.ts'
import { responseTo } from '../../src/authz/ext-authz/check-response.ts'
import { PolicyEngine } from '../../src/authz/policy/policy-engine.ts'
import { regoProvider } from '../../src/authz/rego/rego-provider.ts'
import type { RegoSet } from '../../src/authz/rego/rego-set.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { policiesOf } from './rbac/policies-of.ts'

const engine = new PolicyEngine(policiesOf([
  { name: 'all', action: 'allow' }, { name: 'one', action: 'custom', provider: 'rego/one' },
  { name: 'two', action: 'custom', provider: 'rego/two' }
]))
const request = {
  source: { id: parseSpiffeId('spiffe://own.test/web') }, destination: { id: parseSpiffeId('spiffe://own.test/db') }, time: new Date(0)
}

function open (providers: Providers, dryRun = false) {
  const recorded: DecisionFacts[] = []
  const onDecided = (facts: DecisionFacts) => { recorded.push(facts) }
  const decider = new Decider({ engine: () => engine, providers, dryRun, monotonicMs: () => 0, onDecided })
  return { decide: async () => await decider.decide(request, undefined, () => ({})), recorded }
}

/** Bundles of a revision, whose `one` takes as long as `meanwhile`. */
const bundles = (revision: string, asked: string[], meanwhile: () => Promise<void>) => ({
  revisions: new Map([['shop', revision]]),
  async evaluate (path: string) {
    asked.push(`${path} of ${revision}`)
    if (path === 'one') await meanwhile()
    return { result: true }
  }
}) as unknown as RegoSet

t.test('one request sees one revision of the bundles, whatever comes while somebody answers', async t => {
  const asked: string[] = []
  const next = bundles('r2', asked, async () => {})
  let current = bundles('r1', asked, async () => { current = next })
  const { decide, recorded } = open(name => regoProvider(name, () => current))
  t.match(await decide(), { allowed: true, rule: 'p/all' })
  t.strictSame(asked, ['one of r1', 'two of r1'])
  t.match(await decide(), { allowed: true })
  t.strictSame(asked.slice(2), ['one of r2', 'two of r2'], 'the next one sees the next')
  const events = recorded.map(({ decision }, i) =>
    decisionEvent(new DecisionRecord('0123456789abcdef01', i, request, decision, 0), { labels: {}, mask: new Mask([]) }))
  const rules = { assay: { revision: engine.set.revision } }
  t.match(events.map(event => event.bundles), [{ shop: { revision: 'r1' }, ...rules }, { shop: { revision: 'r2' }, ...rules }],
    'and logs say which')
})

t.test('who cannot say lets nobody in, and that is a decision too', async t => {
  const failing: Providers = name => async () => {
    if (name === 'rego/two') throw new SpiffeError('rego_timeout', 'a loop')
    return { allowed: true }
  }
  const { decide, recorded } = open(failing)
  await t.rejects(decide(), { code: 'rego_timeout' })
  t.match(recorded, [{ decision: { allowed: false, reason: 'custom', rule: 'p/two' } }])
  const unknown = open(() => undefined)
  await t.rejects(unknown.decide(), { code: 'provider_failed' })
  t.match(unknown.recorded, [{ decision: { allowed: false, reason: 'custom', rule: 'p/one' } }])
  const dry = open(failing, true)
  t.match(await dry.decide(), { allowed: true }, 'a dry run lets everybody in, whoever fails')
  t.match(dry.recorded, [{ decision: { allowed: false, reason: 'custom', rule: 'p/two' } }])
})

t.test('what several want of a request that all let in is done, and not what the last wants alone', async t => {
  const verdicts: Readonly<Record<string, Verdict>> = {
    'rego/one': {
      allowed: true, headers: [['x-user', 'ann'], ['x-tier', 'gold'], ['x-late', '1']], headersToRemove: ['authorization', 'x-trace'],
      responseHeaders: [['x-by', 'one'], ['x-one', '1']], metadata: { one: 1, both: 'one' }
    },
    'rego/two': {
      allowed: true, headers: [['x-tier', 'none'], ['x-trace', 't']], headersToRemove: ['x-late'], responseHeaders: [['x-by', 'two']],
      metadata: { both: 'two' }
    }
  }
  const { decide } = open(name => async () => verdicts[name] ?? { allowed: false })
  const decided = await decide()
  t.strictSame(decided.verdict, {
    allowed: true, headers: [['x-user', 'ann'], ['x-late', '1'], ['x-tier', 'none'], ['x-trace', 't']],
    responseHeaders: [['x-one', '1'], ['x-by', 'two']], headersToRemove: ['authorization', 'x-late'], metadata: { one: 1, both: 'two' }
  }, 'the second has the last word where both say something')
  const refused = await open(name => async () => ({ ...verdicts[name], allowed: name === 'rego/one' })).decide()
  t.strictSame(refused.verdict, { ...verdicts['rego/two'], allowed: false }, 'who refuses says alone what the caller is told')
})

t.test('a dry run hands nothing to the workload that a refusal says to the caller', async t => {
  const refusal: Verdict = {
    allowed: false, httpStatus: 302, body: 'log in', headers: [['location', 'https://login.test']], metadata: { why: 'no session' }
  }
  const { decide, recorded } = open(() => async () => refusal, true)
  const decided = await decide()
  t.strictSame(responseTo(decided).okResponse, { headers: [], headersToRemove: [], responseHeadersToAdd: [] })
  t.strictSame(decided.verdict?.metadata, { why: 'no session' }, 'access logs tell why')
  t.match(recorded, [{ decision: { allowed: false, verdict: refusal } }], 'and the log what would have been answered')
})

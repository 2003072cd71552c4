import t from 'tap'
import { meshPolicies } from '../../src/agent/mesh-policies.ts'
import type { NodePolicyState } from '../../src/agent/node-policies.ts'
import { PolicyEngine } from '../../src/authz/policy/policy-engine.ts'
import { readPolicies } from '../../src/authz/policy/read-policies.ts'
import { Watchable } from '../../src/runtime/watchable.ts'
import { ManualClock, settle } from '../fakes/clock.ts'

function stateOf (...scopes: Array<{ trustDomain: string, until?: string }>): NodePolicyState {
  const set = readPolicies([{ name: 'test', text: JSON.stringify([
    { apiVersion: 'assay/v1', kind: 'Settings', trustDomain: 'lab.test', defaultAction: 'deny' },
    ...scopes.map(scope => ({ apiVersion: 'assay/v1', kind: 'FederationScope', accept: [`spiffe://${scope.trustDomain}/*`], ...scope }))
  ]) }])
  return { kind: 'set', version: 1, revision: set.revision, engine: new PolicyEngine(set) }
}

void t.test('the proxy is told of each relationship that ends when it does, and of nothing else', async t => {
  const clock = new ManualClock('2026-01-01T00:00:00Z')
  const states = new Watchable<NodePolicyState>({ kind: 'unknown' })
  const stop = new AbortController()
  const told: unknown[] = []
  const watching = (async () => {
    for await (const state of meshPolicies(states, clock, stop.signal)) {
      told.push(state.kind === 'set' ? state.set.scopes.map(({ trustDomain }) => trustDomain) : state.kind)
    }
  })()
  const news = async () => {
    await settle()
    return told.splice(0)
  }
  t.strictSame(await news(), ['unknown'])

  states.set(stateOf(
    { trustDomain: 'over.test', until: '2025-12-31T23:59:59Z' }, { trustDomain: 'soon.test', until: '2026-01-01T00:10:00Z' },
    { trustDomain: 'later.test', until: '2026-03-01T00:00:00Z' }, { trustDomain: 'always.test' }
  ))
  t.strictSame(await news(), [['soon.test', 'later.test', 'always.test']], 'what is over already is not told')
  await clock.advance(10 * 60_000 - 1)
  t.strictSame(await news(), [])
  await clock.advance(1)
  t.strictSame(await news(), [['later.test', 'always.test']], 'at the instant that the scope names')
  await clock.advance(86_400_000)
  t.strictSame(await news(), [], 'the next one is two months away')

  states.set(stateOf({ trustDomain: 'soon.test', until: '2026-01-02T00:30:00Z' }))
  t.strictSame(await news(), [['soon.test']], 'another set comes at once')
  await clock.advance(20 * 60_000)
  t.strictSame(await news(), [[]])
  states.set(stateOf({ trustDomain: 'always.test' }))
  t.strictSame(await news(), [['always.test']])
  t.equal(clock.sleeping, 0, 'nothing ends: nothing waits')
  stop.abort()
  await watching
})

void t.test('a stop while an end is waited for', async t => {
  const clock = new ManualClock('2026-01-01T00:00:00Z')
  const states = new Watchable(stateOf({ trustDomain: 'soon.test', until: '2026-01-01T00:10:00Z' }))
  const stop = new AbortController()
  const told = meshPolicies(states, clock, stop.signal)
  t.match(await told.next(), { done: false })
  const next = told.next()
  await settle()
  stop.abort()
  t.match(await next, { done: true })
  t.equal(clock.sleeping, 0)
})

import t from 'tap'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import { connectionAccess, narrows, noConnections } from '../../../src/authz/rbac/connection-access.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'
import { randomPolicies } from '../policy/policies-at-random.ts'
import { policiesOf } from './policies-of.ts'

const db = parseSpiffeId('spiffe://own.test/db')
const web = 'spiffe://own.test/web'
const allow = (...ids: string[]) => ({ name: 'a', action: 'allow', from: [{ ids }] })
const ids = ['web', 'web/front', 'web/front/1', 'db', 'team/a/x', 'team/b/x'].map(path => `spiffe://own.test/${path}`)
  .concat(['api', 'api/v1', 'other'].map(path => `spiffe://far.test/${path}`))
const access = (rules: readonly object[], settings = {}) => connectionAccess(policiesOf(rules, settings), db)

t.test('whether somebody may lose a connection', t => {
  const timed = (name: string, from: string) => ({ name, action: 'allow', when: [{ time: { from, to: '18:00' } }] })
  const cases: Record<string, [before: readonly object[], after: readonly object[], boolean]> = {
    'the same': [[allow(web)], [allow(web)], false],
    'one more caller': [[allow(web)], [allow(web, 'spiffe://own.test/x')], false],
    'one less': [[allow(web, 'spiffe://own.test/x')], [allow(web)], true],
    'in place of one, all below': [[allow('spiffe://own.test/web/1')], [allow('spiffe://own.test/web/*')], false],
    'of all below, one': [[allow('spiffe://own.test/web/*')], [allow('spiffe://own.test/web/1')], true],
    'another rule beside it': [[allow(web)], [allow(web), { ...allow('spiffe://own.test/x'), name: 'b' }], false],
    'a refusal': [[allow(web)], [allow(web), { name: 'd', action: 'deny', from: [{ ids: [web] }] }], true],
    'no refusal any more': [[allow(web), { name: 'd', action: 'deny', from: [{ ids: [web] }] }], [allow(web)], false],
    'of requests, which a connection of bytes is none of': [
      [allow(web), { name: 'p', action: 'allow', to: [{ paths: ['/x'] }] }],
      [allow(web), { name: 'p', action: 'allow', to: [{ paths: ['/y'] }] }], false
    ],
    'a refusal of requests, which nobody knows it not to be': [
      [allow(web)], [allow(web), { name: 'd', action: 'deny', to: [{ paths: ['/x'] }] }], true
    ],
    'a refusal at a port where nobody was let in': [
      [{ ...allow(web), to: [{ ports: [80] }] }],
      [{ ...allow(web), to: [{ ports: [80] }] }, { name: 'd', action: 'deny', to: [{ ports: [81], paths: ['/x'] }] }], false
    ],
    'marks': [[allow(web)], [allow(web), { name: 'u', action: 'audit' }], false],
    'what Envoy cannot be told': [[timed('t', '08:00')], [timed('t', '09:00')], true],
    'the same that Envoy cannot be told': [[timed('t', '08:00')], [timed('t', '08:00')], false],
    'another workload': [[allow(web)], [allow(web), { name: 'd', action: 'deny', to: [{ ids: [web] }] }], false]
  }
  for (const [what, [before, after, expected]] of Object.entries(cases)) t.equal(narrows(access(before), access(after)), expected, what)
  const open = { defaultAction: 'allow' }
  t.equal(narrows(access([], open), access([allow(web)], open)), true, 'a first rule closes what was open')
  t.equal(narrows(access([allow(web)], open), access([], open)), false)
  t.equal(narrows(access([], open), access([{ name: 'all', action: 'allow' }])), false, 'a rule lets all in')
  t.equal(narrows(access([allow(web)]), noConnections), true)
  t.equal(narrows(noConnections, access([allow(web)])), false, 'nobody loses what nobody had')
  t.end()
})

t.test('who is said to lose nothing loses nothing, whatever the policies', t => {
  const seed = chooseSeed()
  t.comment(`ASSAY_SEED=${seed}`)
  const random = new Random(seed)
  const seen = { kept: 0, narrowed: 0, lost: 0 }
  for (let i = 0; i < 500; i++) {
    const before = randomPolicies(random, 5)
    const after = changed(random, before)
    const [one, other] = [before, after].map(set => connectionAccess(set, db))
    const narrowed = narrows(one!, other!)
    seen[narrowed ? 'narrowed' : 'kept']++
    const engines = [before, after].map(set => new PolicyEngine(set))
    let lost = false
    for (let n = 0; n < 25; n++) {
      const connection = {
        source: {
          id: random.chance(0.1) ? undefined : parseSpiffeId(random.pick(ids)),
          address: random.pick(['10.1.0.5', '10.2.0.5', '192.168.0.1'])
        },
        destination: { id: db, port: random.pick([80, 8_080, 9_000]) },
        tls: { version: 'TLSv1.3', sni: random.pick(['shop.test', 'other']) },
        time: new Date('2026-06-01T12:00:00Z')
      }
      const [was, is] = engines.map(engine => engine.decide(connection).allowed)
      lost ||= was === true && is === false
    }
    if (lost) seen.lost++
    if (lost && !narrowed) t.fail('somebody lost a connection unseen', { before: before.rules, after: after.rules })
  }
  t.comment(JSON.stringify(seen))
  t.ok(seen.kept > 100 && seen.lost > 20, 'both were tried')
  t.end()
})

/** A rule more, a rule less, one of another set, another default. */
function changed (random: Random, set: PolicySet): PolicySet {
  const others = randomPolicies(random, 5)
  const at = random.below(set.rules.length + 1)
  const taken = random.chance(0.5) ? [] : others.rules.slice(0, 1)
  return {
    ...set, revision: `${set.revision}'`, rules: set.rules.toSpliced(at, random.below(2), ...taken),
    defaultAction: random.chance(0.1) ? others.defaultAction : set.defaultAction,
    scopes: random.chance(0.2) ? others.scopes : set.scopes
  }
}

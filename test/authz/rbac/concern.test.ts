import t from 'tap'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import type { PolicySet } from '../../../src/authz/policy/policy-set.ts'
import type { AuthzRequest } from '../../../src/authz/policy/request.ts'
import { resolveSelectors } from '../../../src/authz/policy/resolve-selectors.ts'
import { compileRbac } from '../../../src/authz/rbac/compile-rbac.ts'
import { widened } from '../../../src/authz/rbac/concern.ts'
import type { Formula, Subject } from '../../../src/authz/rbac/formula.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'
import { randomPolicies, selectedIds, widerRequest } from '../policy/policies-at-random.ts'
import { holdsOf } from './formula-in-node.ts'
import { policiesOf } from './policies-of.ts'

const db = parseSpiffeId('spiffe://own.test/db')
const apart = { kind: 'http', apart: true, noTokens: true } as const

/** What a route sees of it; a subject that is missing meets nothing. */
function meets (formula: Formula, { source, http }: AuthzRequest): boolean {
  const text = (subject: Subject): string | undefined => {
    if (subject === 'peer') return source.id
    if (typeof subject !== 'object') throw new Error(`no route sees ${subject}`)
    const seen: Record<string, string | undefined> = { ':path': http?.path, ':method': http?.method, ':authority': http?.host }
    return seen[subject.header] ?? http?.headers.get(subject.header)
  }
  if (typeof formula === 'boolean') return formula
  if ('all' in formula) return formula.all.every(one => meets(one, { source, http } as AuthzRequest))
  if ('any' in formula) return formula.any.some(one => meets(one, { source, http } as AuthzRequest))
  if ('not' in formula) return !meets(formula.not, { source, http } as AuthzRequest)
  if (!('text' in formula)) throw new Error(`no route sees ${JSON.stringify(formula)}`)
  const value = text(formula.subject)
  return value !== undefined && holdsOf(formula, value)
}

/** The same policies, of which those that Envoy is not told meet nobody, though they are still about their workloads. */
function told (set: PolicySet, external: readonly string[]): PolicySet {
  return {
    ...set,
    rules: set.rules.map(rule => external.includes(rule.name) ? { ...rule, from: [] } : rule),
    scopes: set.scopes.map(scope => scope.until === undefined ? scope : { ...scope, accept: [] })
  }
}

t.test('no rule that Envoy cannot be told has a say in a request that it does not ask about', t => {
  const random = new Random(chooseSeed())
  const seen = { asked: 0, told: 0, all: 0 }
  const wrong: unknown[] = []
  for (let round = 0; round < 1_500 && wrong.length < 3; round++) {
    const drawn = resolveSelectors(randomPolicies(random, random.pick([2, 4, 6]), true), selectedIds)
    // One document's rule may be several here, of which one cannot be told.
    const set = { ...drawn, rules: drawn.rules.map((rule, i) => ({ ...rule, name: `r${i}` })) }
    const { concerns, external } = compileRbac(set, db, apart)
    if (concerns === true) seen.all++
    if (typeof concerns === 'boolean') continue
    const [whole, part] = [new PolicyEngine(set), new PolicyEngine(told(set, external))]
    for (let i = 0; i < 40; i++) {
      const { http, ...rest } = widerRequest(random)
      if (http === undefined) continue
      const request: AuthzRequest = {
        ...rest, destination: { ...rest.destination, id: db }, http: { ...http, claims: undefined, severalTokens: undefined }
      }
      if (meets(concerns, request)) {
        seen.asked++
        continue
      }
      seen.told++
      const [decision, expected] = [part.decide(request), whole.decide(request)]
      if (JSON.stringify(decision) !== JSON.stringify(expected)) wrong.push({ request, decision, expected, concerns, rules: set.rules })
    }
  }
  t.strictSame(wrong, [])
  t.comment(JSON.stringify(seen))
  t.ok(seen.asked > 2_000 && seen.told > 2_000, JSON.stringify(seen))
  t.end()
})

t.test('who is asked about, of rules as people write them', t => {
  const web = { ids: ['spiffe://own.test/web'] }
  const timed = [{ time: { days: ['sun'] } }]
  const of = (...rules: object[]) => compileRbac(policiesOf(rules), db, apart).concerns
  const peer = { subject: 'peer', text: { exact: web.ids[0] } }
  t.strictSame(of({ name: 'a', action: 'allow', from: [web] }), false, 'nobody, where Envoy can be told')
  t.strictSame(of({ name: 'a', action: 'allow', from: [web], when: timed }), peer)
  t.strictSame(of({ name: 'a', action: 'allow', from: [{ ...web, addresses: ['10.0.0.0/8'] }], to: [{ ports: [80] }], when: timed }), peer,
    'routes do not see addresses and ports: these may be so')
  t.strictSame(of({ name: 'a', action: 'custom', provider: 'rego/x', to: [{ methods: ['PUT'] }] }),
    { subject: { header: ':method' }, text: { exact: 'PUT' } })
  t.strictSame(of({ name: 'a', action: 'allow', to: [{ methods: ['PUT'] }] }, { name: 'b', action: 'deny', when: timed }), true,
    'everybody, where it might be about anybody')
  t.strictSame(of({ name: 'a', action: 'deny', from: [{ requestPrincipals: ['*'] }] }), false,
    'where nobody verifies tokens nobody has any')
  t.strictSame(compileRbac(policiesOf([{ name: 'a', action: 'deny', from: [{ requestPrincipals: ['*'] }] }]), db,
    { kind: 'http', apart: true }).concerns, true, 'else all are asked about')
  const far = { kind: 'FederationScope', trustDomain: 'far.test', accept: ['spiffe://far.test/api'], until: '2027-01-01T00:00:00Z' }
  t.strictSame(compileRbac(policiesOf([], { more: [far] }), db, apart).concerns,
    { subject: 'peer', text: { exact: 'spiffe://far.test/api' } }, 'who is let in until a time')
  const many = Array.from({ length: 600 }, (_, i) =>
    ({ name: `r${i}`, action: 'allow', from: [{ ids: [`spiffe://own.test/${i}`] }], when: timed }))
  t.strictSame(of(...many), true, 'a choice that costs more than asking is none')
  t.end()
})

t.test('what is not seen may be so and may be not', t => {
  const [seen, other] = [{ subject: 'peer', text: { exact: 'a' } }, { unsayable: 'x' }] as const
  const isSeen = (leaf: object) => leaf === seen
  t.strictSame(widened({ all: [seen, other] }, isSeen), seen)
  t.strictSame(widened({ not: { all: [seen, other] } }, isSeen), true, 'nor is it sure that not both are so')
  t.strictSame(widened({ not: { any: [seen, other] } }, isSeen), { not: seen })
  t.strictSame(widened({ any: [seen, { not: other }] }, isSeen), true)
  t.strictSame(widened({ not: { not: { any: [seen, other] } } }, isSeen), true)
  t.end()
})

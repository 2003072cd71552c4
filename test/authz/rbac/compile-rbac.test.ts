import t from 'tap'
import { compileRbac, type RbacOptions } from '../../../src/authz/rbac/compile-rbac.ts'
import { resolveSelectors } from '../../../src/authz/policy/resolve-selectors.ts'
import type { Extension } from '../../../src/authz/rbac/extension.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { asJson } from '../../../src/authz/rbac/as-json.ts'
import { policiesOf } from './policies-of.ts'

const db = parseSpiffeId('spiffe://own.test/db')
const web = { ids: ['spiffe://own.test/web'] }
const compile = (rules: readonly object[], options: Partial<RbacOptions> = {}, settings = {}) =>
  compileRbac(policiesOf(rules, settings), db, { kind: 'http', ...options })
const names = ({ filters }: { filters: ReadonlyArray<{ name: string }> }) => filters.map(({ name }) => name.replace('assay.rbac.', ''))
const rulesOf = (filter: Extension | undefined) =>
  (asJson(filter?.typedConfig ?? {}) as { rules: { action: number, policies: Record<string, { permissions: unknown[] }> } }).rules

t.test('filters stand in the order in which the engine looks: federation, audit, deny, allow', t => {
  const all = compile([
    { name: 'a', action: 'allow', from: [web] }, { name: 'd', action: 'deny', to: [{ methods: ['PUT'] }] }, { name: 'u', action: 'audit' }
  ])
  t.strictSame(names(all), ['federation', 'audit', 'deny', 'allow'])
  t.strictSame(names(compile([])), ['federation', 'allow'], 'by default nobody is let in')
  t.strictSame(names(compile([], {}, { defaultAction: 'allow' })), ['federation'], 'by default all are')
  t.strictSame(names(compile([], { oneName: true }, { defaultAction: 'allow' })), ['federation'], 'but those of other domains')
  const elsewhere = { name: 'a', action: 'allow', to: [{ ids: ['spiffe://own.test/other'] }] }
  t.strictSame(names(compile([elsewhere], {}, { defaultAction: 'allow' })), ['federation'], 'rules about other workloads are not here')
  t.end()
})

t.test('the same policies give the same bytes, in whatever order selectors were resolved', t => {
  const rules = [{ name: 'a', action: 'allow', from: [{ selectors: ['unix:uid:1'] }] }, { name: 'b', action: 'allow', from: [web] }]
  const set = policiesOf(rules)
  const [one, two] = ['a', 'b', 'c'].map(name => parseSpiffeId(`spiffe://own.test/${name}`)).reduce(
    ([up, down], id) => [[...up, id], [id, ...down]], [[], []] as ReadonlyArray<Array<typeof db>> as [Array<typeof db>, Array<typeof db>])
  for (const mostInList of [0, 50]) {
    const bytes = [one, two].map(ids => compileRbac(resolveSelectors(set, () => new Set(ids)), db, { kind: 'http', mostInList }))
    t.strictSame(bytes[0], bytes[1])
  }
  t.end()
})

t.test('what Envoy cannot be told leaves the whole workload to others, by name, and refuses until they are asked', t => {
  const cases: Record<string, readonly object[]> = {
    'p/time': [{ name: 'time', action: 'allow', when: [{ time: { from: '08:00', to: '18:00' } }] }],
    'p/not-time': [{ name: 'not-time', action: 'deny', when: [{ notTime: { days: ['sun'] } }] }],
    'p/custom': [{ name: 'custom', action: 'custom', provider: 'rego/x' }],
    'p/claim': [{ name: 'claim', action: 'allow', when: [{ claim: { path: 'role', values: ['admin'] } }] }],
    'p/audience': [{ name: 'audience', action: 'deny', when: [{ audience: { values: ['db'] } }] }],
    'p/principal': [{ name: 'principal', action: 'allow', from: [{ requestPrincipals: ['*'] }] }],
    'p/selectors': [{ name: 'selectors', action: 'allow', from: [{ selectors: ['unix:uid:1'] }] }],
    'p/target': [{ name: 'target', action: 'deny', to: [{ selectors: ['unix:uid:1'] }] }],
    'p/tls': [{ name: 'tls', action: 'allow', when: [{ tls: { atLeast: 'TLSv1.3' } }] }],
    'p/host': [{ name: 'host', action: 'allow', to: [{ headers: [{ name: 'Host', values: ['x'] }] }] }],
    'p/remote': [{ name: 'remote', action: 'allow', from: [{ remoteAddresses: ['10.0.0.0/8'] }] }],
    'p/mapped': [{ name: 'mapped', action: 'allow', from: [{ addresses: ['::ffff:10.0.0.0/104'] }] }],
    'p/audit': [{ name: 'audit', action: 'audit', when: [{ time: { days: ['sun'] } }] }]
  }
  for (const [name, rules] of Object.entries(cases)) {
    const { filters, external, reasons } = compile([...rules, { name: 'plain', action: 'allow', from: [web] }])
    t.strictSame(external, [name], reasons.join())
    t.equal(reasons.length, 1)
    t.equal(filters.length, 1)
    t.strictSame(rulesOf(filters[0]), { action: 0, policies: {} }, `${name}: ALLOW without policies`)
  }
  t.end()
})

t.test('what is about another workload, or comes to nothing here, needs nobody else', t => {
  const time = { when: [{ time: { days: ['sun'] } }] }
  t.strictSame(compile([{ name: 'a', action: 'deny', to: [{ ids: ['spiffe://own.test/x'] }], ...time }]).external, [])
  t.strictSame(compile([{ name: 'a', action: 'allow', to: [{ methods: ['GET'] }], ...time }], { kind: 'network' }).external, [],
    'no bytes are let in by a method, at whatever time')
  t.strictSame(compile([{ name: 'a', action: 'deny', to: [{ methods: ['GET'] }], ...time }], { kind: 'network' }).external, ['p/a'])
  t.end()
})

t.test('federation that ends at a time needs somebody with a clock, until it has ended', t => {
  const far = (until?: string) => ({ more: [{
    kind: 'FederationScope', trustDomain: 'far.test', accept: ['spiffe://far.test/api'], ...until === undefined ? {} : { until }
  }] })
  const now = new Date('2026-06-01T00:00:00Z')
  t.strictSame(compile([], { now }, far()).external, [])
  t.strictSame(compile([], { now }, far('2027-01-01T00:00:00Z')).external, ['federation/far.test'])
  t.strictSame(compile([], {}, far('2026-01-01T00:00:00Z')).external, ['federation/far.test'], 'without a time to compare with')
  const ended = compile([], { now }, far('2026-01-01T00:00:00Z'))
  t.strictSame(ended.external, [])
  t.strictSame(ended, compile([], { now }), 'as if it had never been')
  t.end()
})

t.test('bytes that are no HTTP: nobody is let in by what is not known, and nobody spared', t => {
  const byPath = (action: string) => [{ name: 'r', action, from: [web], to: [{ paths: ['/x'] }] }]
  const [, allow] = compile(byPath('allow'), { kind: 'network' }, { defaultAction: 'allow' }).filters
  t.strictSame(rulesOf(allow), { action: 0, policies: {} }, 'the rule is gone; that it is about the workload is not')
  const [, deny] = compile(byPath('deny'), { kind: 'network' }, { defaultAction: 'allow' }).filters
  t.match(rulesOf(deny), { action: 1, policies: { 'p/r': { permissions: [{ any: true }] } } })
  t.end()
})

t.test('rules of one name stay apart only where they differ in who', t => {
  const both = { name: 'r', action: 'allow', from: [web], to: [{ methods: ['GET'] }, { ids: [db], methods: ['PUT'] }] }
  const [, allow] = compile([both]).filters
  const { policies } = rulesOf(allow)
  t.strictSame(Object.keys(policies), ['p/r'])
  t.equal(policies['p/r']?.permissions.length, 2)
  t.end()
})

t.test('lists meant to burst it are left to others before they cost much', t => {
  const ids = Array.from({ length: 1_000 }, (_, i) => `spiffe://own.test/caller/${i}`)
  const paths = Array.from({ length: 1_000 }, (_, i) => `/path/${i}/*`)
  const rules = Array.from({ length: 40 }, (_, i) => ({ name: `r${i}`, action: 'allow', from: [{ ids }], to: [{ paths }] }))
  const product = rules.map(rule => ({ ...rule, from: [{ ids: ids.slice(0, 250) }] }))
  for (const [what, burst] of Object.entries({ 'many values': rules, 'few, at many places of a tree': product })) {
    const { external, filters, bytes } = compile(burst, { mostTests: 60_000, mostInList: 0 })
    t.equal(external.length, 40, what)
    t.equal(filters.length, 1)
    t.ok(bytes < 200, `${bytes} bytes`)
  }
  const ordinary = compile(ids.slice(0, 300).map((id, i) => ({ name: `r${i}`, action: 'allow', from: [{ ids: [id, ids[i + 1]] }] })))
  t.strictSame(ordinary.external, [])
  t.ok(ordinary.bytes < 300_000, `${ordinary.bytes} bytes`)
  t.end()
})

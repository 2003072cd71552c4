import t from 'tap'
import { readPolicies } from '../../../src/authz/policy/read-policies.ts'
import { resolveSelectors, selectorsIn } from '../../../src/authz/policy/resolve-selectors.ts'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'

const head = 'apiVersion: assay/v1\nkind: Policy\nname: p\n'
const rule = (text: string) => `${head}rules:\n  - { name: r, action: allow, ${text} }\n`
const read = (text: string) => readPolicies([{ name: 'f.yaml', text }])
const id = parseSpiffeId
const time = new Date('2026-06-01T12:00:00Z')

t.test('what is no policy is refused, with its place', t => {
  const refused: Record<string, [string, RegExp]> = {
    'an unknown key': [rule('form: []'), /^f\.yaml:5: rules\.0\.form: unknown key; did you mean from\?$/],
    'an unknown action': [rule('').replace('allow', 'permit'), /action: must be one of allow, deny, audit, custom/],
    'an empty list': [rule('from: []'), /rules\.0\.from: must not be empty/],
    'an empty source': [rule('from: [{}]'), /rules\.0\.from\.0: must not be empty/],
    'no SPIFFE ID': [rule('from: [{ ids: [web] }]'), /from\.0\.ids\.0: invalid SPIFFE ID/],
    'a trust domain as ID': [rule('from: [{ ids: ["spiffe://a.test"] }]'), /is no workload: write spiffe:\/\/a\.test\/\* for all/],
    'a star in the middle': [rule('to: [{ methods: ["G*T"] }]'), /a star stands for the begin or the end/],
    'a path with a query': [rule('to: [{ paths: ["/a?b"] }]'), /a path has no query/],
    'a broken template': [rule('to: [{ paths: ["/a/{x}"] }]'), /a template has \{\*\}/],
    'a relative path': [rule('to: [{ paths: ["a"] }]'), /a path begins with a slash/],
    'a port out of range': [rule('to: [{ ports: [0] }]'), /must be 1 to 65535/],
    'bits below the mask': [rule('from: [{ addresses: ["10.1.0.0/8"] }]'), /no bits below its mask/],
    'no time zone': [rule('when: [{ time: { days: [mon], timeZone: Mars } }]'), /is no time zone/],
    'two conditions in one': [rule('when: [{ sni: { values: [a] }, tls: { atLeast: TLSv1.3 } }]'), /exactly one condition/],
    'custom without a provider': [rule('').replace('allow', 'custom'), /provider is for the action custom/],
    'two rules of one name': [`${head}rules: [{ name: r, action: allow }, { name: r, action: deny }]`, /two rules have the same name/],
    'two policies of one name': [`${rule('')}---\n${rule('')}`, /there is a policy p already/],
    'the same key twice': [`${head}name: q\nrules: []`, /the same key twice/],
    'no policy at all': ['kind: Deployment', /must be Policy, FederationScope, RegoBundle or Settings/],
    'a scope of another domain': [
      'apiVersion: assay/v1\nkind: FederationScope\ntrustDomain: a.test\naccept: ["spiffe://b.test/*"]', /an ID is not of a\.test/
    ],
    'Settings twice': [
      'apiVersion: assay/v1\nkind: Settings\ntrustDomain: a.test\ndefaultAction: deny\n---\n' +
      'apiVersion: assay/v1\nkind: Settings\ntrustDomain: a.test\ndefaultAction: deny', /there are Settings already/
    ]
  }
  for (const [what, [text, message]] of Object.entries(refused)) {
    t.throws(() => read(text), { code: 'policy_malformed', message }, what)
  }
  t.end()
})

t.test('all problems at once, and nothing of a set with one', t => {
  try {
    read(`${rule('form: []')}---\n${rule('to: [{ ports: [0] }]').replace('name: p', 'name: q')}`)
    t.fail('it is refused')
  } catch (error) {
    t.equal((error as Error).message.split('\n').length, 2)
  }
  t.end()
})

t.test('JSON and YAML say the same', t => {
  const rules = [{ name: 'r', action: 'deny', to: [{ paths: ['/a'] }] }]
  const document = { apiVersion: 'assay/v1', kind: 'Policy', name: 'p', rules }
  const yaml = `${head}rules:\n  - name: r\n    action: deny\n    to: [{ paths: [/a] }]`
  t.same(read(JSON.stringify(document)).rules, read(yaml).rules)
  t.end()
})

t.test('what a rule of its own workload makes refuse', t => {
  const set = read(`${head}rules:\n  - { name: r, action: allow, to: [{ ids: ["spiffe://a.test/db"], ports: [1] }, { ports: [2] }] }`)
  const parts = set.rules.map(({ target, to }) => [target.length, to?.length])
  t.same(parts, [[0, 1], [1, 1]], 'one rule for all workloads, one for the database')
  t.end()
})

t.test('gRPC services and methods', t => {
  const engine = new PolicyEngine(read(rule('to: [{ grpc: [{ service: shop.v1.Cart, methods: [Get] }, { service: shop.v1.Items }] }]')))
  const allowed = (path: string, method = 'POST') => engine.decide({
    source: {}, destination: { id: id('spiffe://a.test/x') }, http: { method, path, host: '', headers: new Map() }, time
  }).allowed
  t.same(['/shop.v1.Cart/Get', '/shop.v1.Cart/Put', '/shop.v1.Items/Any', '/shop.v1.ItemsX/Any'].map(path => allowed(path)),
    [true, false, true, false])
  t.equal(allowed('/shop.v1.Cart/Get', 'GET'), false)
  t.end()
})

t.test('selectors mean the entries that have them', t => {
  const set = read(rule('from: [{ selectors: ["k8s:ns:web"] }]'))
  t.same(selectorsIn(set.rules), [['k8s:ns:web']])
  t.throws(() => resolveSelectors(set, undefined), { code: 'policy_unsupported' })
  const engine = new PolicyEngine(resolveSelectors(set, () => new Set([id('spiffe://a.test/web')])))
  const allowed = (source: string) => engine.decide({ source: { id: id(source) }, destination: { id: id('spiffe://a.test/x') }, time }).allowed
  t.same([allowed('spiffe://a.test/web'), allowed('spiffe://a.test/other')], [true, false])
  t.end()
})

t.test('selectors that must not be, and versions of TLS', t => {
  const set = read(rule('from: [{ trustDomains: [a.test], notSelectors: ["k8s:ns:web", "unix:uid:0"] }]'))
  t.same(selectorsIn(set.rules), [['k8s:ns:web', 'unix:uid:0']])
  t.throws(() => resolveSelectors(set, undefined), { code: 'policy_unsupported' }, 'where nobody knows who has them nobody is let in by it')
  const engine = new PolicyEngine(resolveSelectors(set, () => new Set([id('spiffe://a.test/web')])))
  const by = (source: string) => engine.decide({ source: { id: id(source) }, destination: { id: id('spiffe://a.test/x') }, time }).allowed
  t.same([by('spiffe://a.test/web'), by('spiffe://a.test/other')], [false, true])
  const target = read(rule('to: [{ notSelectors: ["unix:uid:0"] }]'))
  const other = new PolicyEngine(resolveSelectors(target, () => new Set([id('spiffe://a.test/web')])))
  const to = (destination: string) => other.decide({ source: {}, destination: { id: id(destination) }, time }).reason
  t.same([to('spiffe://a.test/web'), to('spiffe://a.test/other')], ['default', 'rule'], 'of workloads: a rule is about the others')

  const old = new PolicyEngine(read(`${rule('')}  - { name: old, action: deny, when: [{ tls: { notAtLeast: TLSv1.3 } }] }\n`))
  const over = (tls: object | undefined) => old.decide({ source: {}, destination: { id: id('spiffe://a.test/x') }, tls, time }).allowed
  t.same([over({ version: 'TLSv1.3' }), over({ version: 'TLSv1.2' }), over(undefined), over({})], [true, false, false, false],
    'plain text is no TLS 1.3, nor is what nobody knows')
  t.throws(() => read(rule('when: [{ tls: {} }]')), { code: 'policy_malformed' })
  t.end()
})

t.test('shadow rules are looked at and not obeyed', t => {
  const engine = new PolicyEngine(read(`${rule('')}---\n${rule('').replace('name: p', 'name: q\nmode: shadow').replace('allow', 'deny')}`))
  const decision = engine.decide({ source: {}, destination: { id: id('spiffe://a.test/x') }, time })
  t.same([decision.allowed, decision.rule, decision.shadow?.allowed, decision.shadow?.rule], [true, 'p/r', false, 'q/r'])
  t.end()
})

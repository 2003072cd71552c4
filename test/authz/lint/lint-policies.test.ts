import t from 'tap'
import { findingCatalogue, type Finding } from '../../../src/authz/lint/finding.ts'
import { lintPolicies } from '../../../src/authz/lint/lint-policies.ts'
import { parseEntries } from '../../../src/authz/lint/registered-entries.ts'
import { readPolicies } from '../../../src/authz/policy/read-policies.ts'

const now = new Date('2026-06-01T00:00:00Z')
const web = { ids: ['spiffe://own.test/web'] }
const entries = parseEntries('test', { entries: ['web', 'db', 'api'].map(name => ({
  spiffe_id: { trust_domain: 'own.test', path: `/${name}` }, selectors: [{ type: 'unix', value: `user:${name}` }]
})) })

function lint (rules: object[], { scopes = [], defaultAction = 'deny', mode = 'enforce', workloads }: {
  scopes?: object[], defaultAction?: string, mode?: string, workloads?: object
} = {}): readonly Finding[] {
  const apiVersion = 'assay/v1'
  return lintPolicies(readPolicies([{ name: 'test', text: JSON.stringify([
    { apiVersion, kind: 'Settings', trustDomain: 'own.test', defaultAction },
    ...scopes.map(scope => ({ apiVersion, kind: 'FederationScope', trustDomain: 'far.test', ...scope })),
    ...rules.length === 0 ? [] : [{
      apiVersion, kind: 'Policy', name: 'p', mode, workloads, rules: rules.map((rule, i) => ({ name: `r${i}`, action: 'allow', ...rule }))
    }]
  ]) }]), { now, entries })
}
const codes = (findings: readonly Finding[]) => findings.map(({ code, about }) => about === undefined ? code : `${code} ${about}`)

t.test('each code is found where it should be, and not beside', t => {
  const farWeb = [{ ids: ['spiffe://far.test/web'] }]
  const cases: [string, Parameters<typeof lint>, string[]][] = [
    ['nothing is odd', [[{ from: [web], to: [{ paths: ['/a'] }] }]], []],
    ['excluded what is asked for', [[{ from: [{ ...web, notIds: ['spiffe://own.test/*'] }] }]], ['never-matches p/r0']],
    ['one alternative is enough', [[{ from: [{ ...web, notIds: ['spiffe://own.test/*'] }, web] }]], []],
    ['two names at once', [[{ from: [web], to: [{ ids: ['spiffe://own.test/db'] }] }],
      { workloads: { ids: ['spiffe://own.test/api'] } }], ['never-matches p/r0']],
    ['two paths at once are two alternatives', [[{ from: [web], to: [{ paths: ['/a', '/b'] }] }]], []],
    ['a deny rule meets what is unknown',
      [[{ from: [web], action: 'deny', to: [{ ports: [80], methods: ['A'], notMethods: ['A'] }] }]], []],
    ['a window that is over', [[{ from: [web], when: [{ time: { notAfter: '2026-05-31T00:00:00Z' } }] }]], ['window-past p/r0']],
    ['a window without a time', [[{ from: [web], when: [{ time: { from: '08:00', to: '08:00' } }] }]], ['never-matches p/r0']],
    ['no path is seen so', [[{ from: [web], to: [{ paths: ['/a//b', '/ok'] }] }]], ['value-never-matches p/r0']],
    ['of several values none', [[{ from: [web], to: [{ paths: ['/%41', '/../x'] }] }]],
      ['never-matches p/r0', 'value-never-matches p/r0', 'value-never-matches p/r0']],
    ['what a prefix may go on to', [[{ from: [web], to: [{ paths: ['/a%*', '/a/.*', '/a%2*'] }] }]], []],
    ['a host with a port', [[{ from: [web], to: [{ hosts: ['shop.test:80', 'shop.test'] }] }]], ['value-never-matches p/r0']],
    ['get', [[{ from: [web], to: [{ methods: ['get', 'GET'] }] }]], ['method-in-lower-case p/r0']],
    ['not federated', [[{ from: farWeb }]], ['not-federated p/r0']],
    ['federated', [[{ from: farWeb }], { scopes: [{ accept: ['spiffe://far.test/web'] }] }], []],
    ['no more', [[{ from: farWeb }], { scopes: [{ accept: ['spiffe://far.test/web'], until: '2026-05-01T00:00:00Z' }] }],
      ['not-federated p/r0', 'federation-over federation/far.test']],
    ['all of theirs', [[], { scopes: [{ accept: ['spiffe://far.test/*'] }] }], ['federation-whole-domain federation/far.test']],
    ['our own', [[], { scopes: [{ trustDomain: 'own.test', accept: ['spiffe://own.test/web'] }] }],
      ['federation-with-itself federation/own.test']],
    ['none of theirs', [[], { scopes: [{}] }], ['federation-accepts-nobody federation/far.test']],
    ['a wider rule before', [[{ from: [web], to: [{ paths: ['/a/*'] }] }, { from: [web], to: [{ paths: ['/a/b'], methods: ['GET'] }] }]],
      ['shadowed p/r1']],
    ['a wider rule after', [[{ from: [web], to: [{ paths: ['/a/b'] }] }, { from: [web], to: [{ paths: ['/a/*'] }] }]], []],
    ['two that cover it together are not seen', [[{ from: [web], to: [{ paths: ['/a'] }] }, { from: [web], to: [{ paths: ['/b'] }] },
      { from: [web], to: [{ paths: ['/a', '/b'] }] }]], []],
    ['a deny rule after is before', [[{ from: [web], to: [{ ports: [80], paths: ['/a/b'] }] }, { action: 'deny', to: [{ ports: [80] }] }]],
      ['dead-by-deny p/r0']],
    ['a deny rule of other ports', [[{ from: [web], to: [{ ports: [80, 81] }] }, { action: 'deny', to: [{ ports: [80] }] }]], []],
    ['a deny rule about HTTP', [[{ from: [web] }, { action: 'deny', to: [{ paths: ['/a'] }] }]], ['deny-without-port p/r1']],
    ['anybody', [[{ to: [{ paths: ['/a'] }] }]], ['reachable-by-anybody p/r0']],
    ['anybody, everything', [[{}], { workloads: { ids: ['spiffe://own.test/db'] } }], ['reachable-by-anybody p/r0', 'open-workload p/r0']],
    ['a whole domain', [[{ from: [{ trustDomains: ['own.test'] }], to: [{ paths: ['/a'] }] }]], ['whole-trust-domain p/r0']],
    ['a whole domain but', [[{ from: [{ trustDomains: ['own.test'], addresses: ['10.0.0.0/8'] }], to: [{ paths: ['/a'] }] }]], []],
    ['a whole domain, everything', [[{ from: [{ ids: ['spiffe://own.test/*'] }] }], { workloads: { ids: ['spiffe://own.test/db'] } }],
      ['identity-is-no-permission p/r0', 'open-workload p/r0']],
    ['default', [[{ from: [web] }], { defaultAction: 'allow', workloads: { ids: ['spiffe://own.test/db'] } }],
      ['default-allow', 'unprotected-workload']],
    ['nobody', [[{ from: [{ ids: ['spiffe://own.test/wbe', 'spiffe://own.test/web'] }] }]], ['nobody-registered p/r0']],
    ['nobody below', [[{ from: [{ ids: ['spiffe://own.test/web/*'] }] }]], ['nobody-registered p/r0']],
    ['selectors of nobody', [[{ from: [{ selectors: ['unix:user:web', 'unix:user:db'] }] }]], ['nobody-registered p/r0']],
    ['selectors', [[{ from: [{ selectors: ['unix:user:web'] }] }]], []]
  ]
  const seen = new Set<string>()
  for (const [title, [rules, options], expected] of cases) {
    const findings = lint(rules, options)
    for (const { code } of findings) seen.add(code)
    t.same(codes(findings).toSorted(), expected.toSorted(), title)
  }
  t.same(Object.keys(findingCatalogue).filter(code => !seen.has(code)), ['not-all-compared', 'too-many-alternatives'], 'all others')
  t.end()
})

t.test('too many alternatives are told, not looked at for ever', t => {
  const many = Array.from({ length: 70 }, (_, i) => i)
  const findings = lint([{
    from: many.map(i => ({ ids: ['spiffe://own.test/web'], addresses: [`10.0.${i}.0/24`] })), to: many.map(i => ({ paths: [`/${i}`] }))
  }])
  t.same(codes(findings), ['too-many-alternatives p/r0'])
  t.end()
})

t.test('a shadow rule hides no rule that is obeyed', t => {
  const set = (mode: string) => readPolicies([{ name: 'test', text: JSON.stringify([
    { apiVersion: 'assay/v1', kind: 'Policy', name: 'a', mode, rules: [{ name: 'r', action: 'deny' }] },
    { apiVersion: 'assay/v1', kind: 'Policy', name: 'b', rules: [{ name: 'r', action: 'allow', from: [web] }] }
  ]) }])
  t.same(codes(lintPolicies(set('enforce'), { now })), ['dead-by-deny b/r'])
  t.same(codes(lintPolicies(set('shadow'), { now })), [])
  t.end()
})

t.test('three thousand rules are looked at in seconds', t => {
  const rules = Array.from({ length: 3_000 }, (_, i) => ({
    from: [{ ids: [`spiffe://own.test/caller/${i % 500}`] }], to: [{ ids: [`spiffe://own.test/service/${i % 499}`], paths: [`/v${i % 7}/*`] }]
  }))
  const begin = performance.now()
  const findings = lint(rules)
  t.comment(`${Math.round(performance.now() - begin)} ms, ${findings.length} findings`)
  t.ok(findings.every(({ code }) => code === 'nobody-registered'), 'and none is dead')
  t.end()
})

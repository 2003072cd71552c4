import { http, policy, tcp, type Row } from '../mesh.ts'

const any = [{}]
const ofWeb = [{ from: [{ source: { principals: ['mesh.test/ns/foo/sa/web'] } }] }]

/** What is decided when policies of several actions, or none, are about a workload. */
export const actionRows: readonly Row[] = [
  ['no policy: allowed', [], http(), 'allow default'],
  ['an ALLOW policy that matches: allowed', [policy('foo/p', { action: 'ALLOW', rules: any })], http(), 'allow foo/p/0'],
  ['ALLOW is the action when none is written', [policy('foo/p', { rules: ofWeb })], http(), 'allow foo/p/0'],
  ['ALLOW policies, none of which matches: denied', [policy('foo/p', { rules: ofWeb })], http({ from: 'foo/db' }), 'deny no-rule-allows'],
  ['a DENY policy that matches: denied', [policy('foo/p', { action: 'DENY', rules: any })], http(), 'deny foo/p/0'],
  ['DENY policies alone, none of which matches: allowed', [policy('foo/p', { action: 'DENY', rules: ofWeb })], http({ from: 'foo/db' }),
    'allow default'],
  ['DENY comes before ALLOW', [policy('foo/a', { rules: any }), policy('foo/d', { action: 'DENY', rules: ofWeb })], http(), 'deny foo/d/0'],
  ['whom DENY does not match, ALLOW may let in', [policy('foo/d', { action: 'DENY', rules: ofWeb }), policy('foo/a', { rules: any })],
    http({ from: 'foo/db' }), 'allow foo/a/0'],
  ['one of several ALLOW policies is enough', [policy('foo/a', {}), policy('foo/b', { rules: ofWeb })], http(), 'allow foo/b/0'],
  ['one rule of several is enough', [policy('foo/p', { rules: [{ to: [{ operation: { ports: ['1'] } }] }, ...ofWeb] })],
    http(), 'allow foo/p/1'],
  ['without rules nothing is matched: ALLOW denies all', [policy('foo/p', { action: 'ALLOW' })], http(), 'deny no-rule-allows'],
  ['spec {} denies all', [policy('foo/p', {})], http(), 'deny no-rule-allows'],
  ['spec {} denies TCP too', [policy('foo/p', {})], tcp(), 'deny no-rule-allows'],
  ['an empty list of rules is none', [policy('foo/p', { rules: [] })], http(), 'deny no-rule-allows'],
  ['DENY without rules denies nobody', [policy('foo/p', { action: 'DENY' })], http(), 'allow default'],
  ['DENY without rules does not make the workload refuse the rest', [policy('foo/p', { action: 'DENY' })], tcp(), 'allow default'],
  ['the rule {} matches everything', [policy('foo/p', { rules: any })], tcp({ from: 'foo/db', port: 1 }), 'allow foo/p/0'],
  ['AUDIT only marks', [policy('foo/m', { action: 'AUDIT', rules: ofWeb })], http(), 'allow default', { audits: ['foo/m/0'] }],
  ['AUDIT marks only what it matches', [policy('foo/m', { action: 'AUDIT', rules: ofWeb })], http({ from: 'foo/db' }), 'allow default'],
  ['AUDIT without rules marks nothing', [policy('foo/m', { action: 'AUDIT' })], http(), 'allow default'],
  ['AUDIT does not make the workload refuse the rest, nor lets in', [policy('foo/m', { action: 'AUDIT', rules: any }), policy('foo/a', {})],
    http(), 'deny no-rule-allows', { audits: ['foo/m/0'] }],
  ['CUSTOM asks its provider about what it matches', [policy('foo/c', {
    action: 'CUSTOM', provider: { name: 'outside' }, rules: [{ to: [{ operation: { paths: ['/admin/*'] } }] }]
  })], http({ path: '/admin/x' }), 'allow default', { asks: ['foo/c/0 outside'] }],
  ['CUSTOM asks nobody about the rest', [policy('foo/c', {
    action: 'CUSTOM', provider: { name: 'outside' }, rules: [{ to: [{ operation: { paths: ['/admin/*'] } }] }]
  })], http({ path: '/x' }), 'allow default'],
  ['CUSTOM without rules asks nobody', [policy('foo/c', { action: 'CUSTOM', provider: { name: 'outside' } })], http(), 'allow default'],
  ['a provider cannot overrule DENY', [
    policy('foo/c', { action: 'CUSTOM', provider: { name: 'outside' }, rules: any }), policy('foo/d', { action: 'DENY', rules: any })
  ], http(), 'deny foo/d/0'],
  ['a provider cannot overrule ALLOW that lets nobody in', [
    policy('foo/c', { action: 'CUSTOM', provider: { name: 'outside' }, rules: any }), policy('foo/a', {})
  ], http(), 'deny no-rule-allows'],
  ['a provider is asked beside an ALLOW that matches', [
    policy('foo/c', { action: 'CUSTOM', provider: { name: 'outside' }, rules: any }), policy('foo/a', { rules: any })
  ], http(), 'allow foo/a/0', { asks: ['foo/c/0 outside'] }],
  ['a dry-run DENY denies nobody', [policy('foo/d', { action: 'DENY', rules: any }, { 'istio.io/dry-run': 'true' })],
    http(), 'allow default',
    { shadow: 'deny foo/d/0' }],
  ['a dry-run ALLOW does not make the workload refuse the rest', [policy('foo/a', { rules: ofWeb }, { 'istio.io/dry-run': 'true' })],
    http({ from: 'foo/db' }), 'allow default', { shadow: 'deny no-rule-allows' }],
  ['dry-run false is a policy like others', [policy('foo/d', { action: 'DENY', rules: any }, { 'istio.io/dry-run': 'false' })], http(),
    'deny foo/d/0']
]

/** HTTP's parts on bytes whose meaning is not known. */
export const tcpRows: readonly Row[] = [
  ['an ALLOW rule with a method never lets TCP in', [
    policy('foo/p', { rules: [{ to: [{ operation: { methods: ['GET'], ports: ['80'] } }] }] })
  ], tcp(), 'deny no-rule-allows'],
  ['in a DENY rule the method counts as matched', [
    policy('foo/p', { action: 'DENY', rules: [{ to: [{ operation: { methods: ['GET'] } }] }] })
  ], tcp(), 'deny foo/p/0'],
  ['a port limits such a DENY rule: the port', [
    policy('foo/p', { action: 'DENY', rules: [{ to: [{ operation: { methods: ['POST'], ports: ['8080'] } }] }] })
  ], tcp({ port: 8_080 }), 'deny foo/p/0'],
  ['a port limits such a DENY rule: another port', [
    policy('foo/p', { action: 'DENY', rules: [{ to: [{ operation: { methods: ['POST'], ports: ['8080'] } }] }] })
  ], tcp({ port: 9_000 }), 'allow default'],
  ['notPaths count as matched too', [policy('foo/p', { action: 'DENY', rules: [{ to: [{ operation: { notPaths: ['/ok'] } }] }] })], tcp(),
    'deny foo/p/0'],
  ['a DENY rule of a caller and a method denies the caller', [policy('foo/p', {
    action: 'DENY', rules: [{ from: [{ source: { principals: ['mesh.test/ns/foo/sa/web'] } }], to: [{ operation: { methods: ['GET'] } }] }]
  })], tcp(), 'deny foo/p/0'],
  ['and no other', [policy('foo/p', {
    action: 'DENY', rules: [{ from: [{ source: { principals: ['mesh.test/ns/foo/sa/web'] } }], to: [{ operation: { methods: ['GET'] } }] }]
  })], tcp({ from: 'foo/db' }), 'allow default'],
  ['an ALLOW rule by namespace and port lets TCP in', [
    policy('foo/p', { rules: [{ from: [{ source: { namespaces: ['foo'] } }], to: [{ operation: { ports: ['80'] } }] }] })
  ], tcp(), 'allow foo/p/0'],
  ['an ALLOW rule with HTTP in one of its operations is none for TCP', [
    policy('foo/p', { rules: [{ to: [{ operation: { methods: ['GET'] } }, { operation: { ports: ['80'] } }] }] })
  ], tcp(), 'deny no-rule-allows'],
  ['but one for HTTP', [policy('foo/p', { rules: [{ to: [{ operation: { methods: ['GET'] } }, { operation: { ports: ['80'] } }] }] })],
    http({ method: 'POST' }), 'allow foo/p/0'],
  ['an ALLOW rule with a token in one of its sources is none for TCP', [
    policy('foo/p', { rules: [{ from: [{ source: { requestPrincipals: ['*'] } }, { source: { namespaces: ['foo'] } }] }] })
  ], tcp(), 'deny no-rule-allows'],
  ['a DENY rule of requests without a token denies TCP', [
    policy('foo/p', { action: 'DENY', rules: [{ from: [{ source: { notRequestPrincipals: ['*'] } }] }] })
  ], tcp(), 'deny foo/p/0'],
  ['a DENY rule when a claim is so denies TCP', [
    policy('foo/p', { action: 'DENY', rules: [{ when: [{ key: 'request.auth.claims[iss]', values: ['x'] }] }] })
  ], tcp(), 'deny foo/p/0'],
  ['an ALLOW rule when a header is not so lets no TCP in', [
    policy('foo/p', { rules: [{ when: [{ key: 'request.headers[x]', notValues: ['y'] }] }] })
  ], tcp(), 'deny no-rule-allows'],
  ['CUSTOM asks about TCP as if its HTTP were matched', [policy('foo/c', {
    action: 'CUSTOM', provider: { name: 'outside' }, rules: [{ to: [{ operation: { methods: ['GET'] } }] }]
  })], tcp(), 'allow default', { asks: ['foo/c/0 outside'] }]
]

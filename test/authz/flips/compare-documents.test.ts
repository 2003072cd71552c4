import t from 'tap'
import { compareDocuments } from '../../../src/authz/flips/compare-documents.ts'

const own = (kind: string, fields: object) => ({ apiVersion: 'assay/v1', kind, ...fields })
const texts = (...documents: object[]) => [{ name: 'test', text: JSON.stringify(documents) }]
const settings = own('Settings', { trustDomain: 'own.test', defaultAction: 'deny' })
const rule = (name: string, more: object = {}) => ({ name, action: 'allow', from: [{ ids: ['spiffe://own.test/a'] }], ...more })
const policy = (...rules: object[]) => own('Policy', { name: 'shop', rules })
const istio = (namespace: string) =>
  ({ apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy', metadata: { name: 'p', namespace }, spec: {} })

t.test('documents are told apart by kind and name, whichever text has them', t => {
  const scope = own('FederationScope', { trustDomain: 'far.test', accept: [] })
  t.strictSame(compareDocuments(texts(settings, policy(rule('r'))), [...texts(policy(rule('r'))), ...texts(settings)]), [])
  const later = texts({ ...settings, defaultAction: 'allow' }, policy(rule('r')), istio('b'))
  t.strictSame(compareDocuments(texts(settings, scope, istio('a')), later), [
    { document: 'AuthorizationPolicy a/p', change: 'removed', values: [] },
    { document: 'AuthorizationPolicy b/p', change: 'added', values: [] },
    { document: 'FederationScope far.test', change: 'removed', values: [] },
    { document: 'Policy shop', change: 'added', values: [] },
    { document: 'Settings', change: 'changed', values: [{ path: 'defaultAction', before: 'deny', after: 'allow' }] }
  ])
  const test = own('PolicyTest', { name: 'x', tests: [] })
  t.strictSame(compareDocuments(texts(settings), texts(settings, test)), [], 'what decides nothing does not count')
  t.end()
})

t.test('of a document that changed, what: rules by their names, values by what came and went', t => {
  const values = (before: object, after: object) =>
    JSON.parse(JSON.stringify(compareDocuments(texts(before), texts(after)).flatMap(({ values }) => values))) as unknown
  t.strictSame(values(policy(rule('r'), rule('s')), policy(rule('s', { action: 'deny' }), rule('t'))), [
    { path: 'rules.r', before: rule('r') },
    { path: 'rules.s.action', before: 'allow', after: 'deny' },
    { path: 'rules.t', after: rule('t') }
  ])
  t.strictSame(values(policy(rule('r')), policy(rule('r', { from: [{ ids: ['spiffe://own.test/b', 'spiffe://own.test/a'] }] }))),
    [{ path: 'rules.r.from.0.ids', after: 'spiffe://own.test/b' }])
  t.strictSame(values(policy(rule('r', { to: [{ ports: [80, 81] }] })), policy(rule('r', { to: [{ ports: [81, 80] }] }))), [],
    'the order of values decides nothing')
  t.strictSame(values(policy(rule('r')), policy(rule('r', { from: [...rule('r').from, { ids: [] }] }))),
    [{ path: 'rules.r.from.1', after: { ids: [] } }])
  t.strictSame(values(policy(rule('r'), rule('s')), policy(rule('s'), rule('r'))),
    [{ path: 'rules (order)', before: ['r', 's'], after: ['s', 'r'] }], 'that of rules says which is named')
  t.end()
})

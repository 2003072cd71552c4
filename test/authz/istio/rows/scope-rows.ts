import { http, policy, type Row } from '../mesh.ts'

const deny = { action: 'DENY', rules: [{}] }
const labelled = (labels: Readonly<Record<string, string>>) => ({ ...deny, selector: { matchLabels: labels } })

/** Which workloads a policy is about. */
export const scopeRows: readonly Row[] = [
  ['a policy is about its namespace', [policy('foo/p', deny)], http({ to: 'foo/app' }), 'deny foo/p/0'],
  ['all of it', [policy('foo/p', deny)], http({ to: 'foo/db' }), 'deny foo/p/0'],
  ['and no other', [policy('foo/p', deny)], http({ to: 'bar/app' }), 'allow default'],
  ['nor one whose name begins alike', [policy('foo/p', deny)], http({ to: 'foobar/app' }), 'allow default'],
  ['under each name of the trust domain', [policy('foo/p', deny)], http({ to: 'spiffe://old.test/ns/foo/sa/app' }), 'deny foo/p/0'],
  ['an ID of another form is in no namespace', [policy('foo/p', deny)], http({ to: 'spiffe://mesh.test/ns/foo/app' }), 'allow default'],
  ['the root namespace is the mesh', [policy('istio-system/p', deny)], http({ to: 'bar/app' }), 'deny istio-system/p/0'],
  ['whatever form its IDs have', [policy('istio-system/p', deny)], http({ to: 'spiffe://mesh.test/db' }), 'deny istio-system/p/0'],
  ['labels narrow it to workloads with them', [policy('foo/p', labelled({ app: 'app' }))], http({ to: 'foo/app' }), 'deny foo/p/0'],
  ['and leave out the others', [policy('foo/p', labelled({ app: 'app' }))], http({ to: 'foo/db' }), 'allow default'],
  ['of its own namespace alone', [policy('foo/p', labelled({ app: 'app' }))], http({ to: 'bar/app' }), 'allow default'],
  ['all labels are needed', [policy('foo/p', labelled({ app: 'app', version: 'v2' }))], http({ to: 'foo/app' }), 'allow default'],
  ['two labels, both there', [policy('foo/p', labelled({ app: 'db', version: 'v2' }))], http({ to: 'foo/db' }), 'deny foo/p/0'],
  ['in the root namespace labels select in all', [policy('istio-system/p', labelled({ version: 'v1' }))], http({ to: 'bar/app' }),
    'deny istio-system/p/0'],
  ['and only those', [policy('istio-system/p', labelled({ version: 'v1' }))], http({ to: 'foo/db' }), 'allow default'],
  ['a selector without labels is none', [policy('foo/p', { ...deny, selector: {} })], http({ to: 'foo/db' }), 'deny foo/p/0'],
  ['an ALLOW policy of selected workloads leaves others open', [policy('foo/p', { selector: { matchLabels: { app: 'app' } } })],
    http({ to: 'foo/db' }), 'allow default'],
  ['and closes those', [policy('foo/p', { selector: { matchLabels: { app: 'app' } } })], http({ to: 'foo/app' }), 'deny no-rule-allows'],
  ['policies of mesh and namespace add up', [policy('istio-system/p', {}), policy('foo/a', { rules: [{}] })], http(), 'allow foo/a/0'],
  ['an ALLOW in one namespace is none in another', [policy('istio-system/p', {}), policy('bar/a', { rules: [{}] })], http(),
    'deny no-rule-allows']
]

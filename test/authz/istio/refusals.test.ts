import t from 'tap'
import { readPolicies } from '../../../src/authz/policy/read-policies.ts'
import { claims, istioDocuments } from '../../../src/authz/istio/istio-documents.ts'
import type { SpiffeError } from '../../../src/spiffe/errors.ts'
import { policy, readMesh } from './mesh.ts'

const ofSource = (source: object) => ({ rules: [{ from: [{ source }] }] })
const ofOperation = (operation: object) => ({ rules: [{ to: [{ operation }] }] })
const ofCondition = (condition: object) => ({ rules: [{ when: [condition] }] })
const source = 'spec.rules.0.from.0.source'
const operation = 'spec.rules.0.to.0.operation'
const condition = 'spec.rules.0.when.0'

/** What is wrong → the spec, the key that is named, and a part of the rule. */
const refused: Readonly<Record<string, readonly [spec: object, key: string, rule: RegExp]>> = {
  'an unknown key of spec': [{ action: 'ALLOW', ruels: [] }, 'spec.ruels', /unknown key; did you mean rules\?/],
  'an unknown key of a rule': [{ rules: [{ form: [] }] }, 'spec.rules.0.form', /unknown key; did you mean from\?/],
  'an unknown key of a source': [ofSource({ principal: ['x'] }), `${source}.principal`, /unknown key; did you mean principals\?/],
  'an unknown key of an operation': [ofOperation({ method: ['GET'] }), `${operation}.method`, /unknown key/],
  'an unknown key of a condition': [ofCondition({ key: 'source.ip', value: ['x'] }), `${condition}.value`, /unknown key/],
  'an unknown action': [{ action: 'PERMIT' }, 'spec.action', /must be one of ALLOW, DENY, AUDIT, CUSTOM/],
  'an action in lower case': [{ action: 'deny' }, 'spec.action', /must be one of/],
  'targetRefs': [{ targetRefs: [{ kind: 'Gateway', name: 'waypoint' }] }, 'spec.targetRefs', /gateway/],
  'targetRef': [{ targetRef: { kind: 'Gateway', name: 'waypoint' } }, 'spec.targetRef', /gateway/],
  'matchExpressions': [{ selector: { matchExpressions: [] } }, 'spec.selector.matchExpressions', /unknown key/],
  'a star in a label': [{ selector: { matchLabels: { app: 'a*' } } }, 'spec.selector.matchLabels.app', /no star/],
  'a label without a name': [{ selector: { matchLabels: { '': 'a' } } }, 'spec.selector.matchLabels.', /invalid key|labels/],
  'CUSTOM without a provider': [{ action: 'CUSTOM', rules: [{}] }, 'spec.provider.name', /is required/],
  'CUSTOM with a provider without a name': [{ action: 'CUSTOM', provider: { name: '' } }, 'spec.provider.name', /empty/],
  'a provider with another action': [{ action: 'DENY', provider: { name: 'x' }, rules: [{}] }, 'spec.provider', /CUSTOM alone/],
  'CUSTOM by principal': [{ action: 'CUSTOM', provider: { name: 'x' }, ...ofSource({ principals: ['*'] }) },
    `${source}.principals`, /not for .*CUSTOM/],
  'CUSTOM by what a namespace is not': [{ action: 'CUSTOM', provider: { name: 'x' }, ...ofSource({ notNamespaces: ['x'] }) },
    `${source}.notNamespaces`, /not for .*CUSTOM/],
  'CUSTOM by token': [{ action: 'CUSTOM', provider: { name: 'x' }, ...ofCondition({ key: 'request.auth.claims[iss]', values: ['x'] }) },
    `${condition}.key`, /not for .*CUSTOM/],
  'CUSTOM when a principal is so': [
    { action: 'CUSTOM', provider: { name: 'x' }, ...ofCondition({ key: 'source.principal', values: ['x'] }) },
    `${condition}.key`, /not for .*CUSTOM/
  ],
  'a rule that is nothing': [{ rules: [null] }, 'spec.rules.0', /must be a map/],
  'an empty from': [{ rules: [{ from: [] }] }, 'spec.rules.0.from', /must not be empty/],
  'an empty to': [{ rules: [{ to: [] }] }, 'spec.rules.0.to', /must not be empty/],
  'a from without a source': [{ rules: [{ from: [{}] }] }, 'spec.rules.0.from.0.source', /is required/],
  'an empty source': [ofSource({}), source, /must not be empty/],
  'a source of empty lists': [ofSource({ principals: [] }), source, /must not be empty/],
  'an empty operation': [ofOperation({}), operation, /must not be empty/],
  'an empty value': [ofSource({ principals: [''] }), `${source}.principals.0`, /must not be empty/],
  'a value that is a number': [ofOperation({ ports: [80] }), `${operation}.ports.0`, /must be a string/],
  'a principal with its scheme': [ofSource({ principals: ['spiffe://mesh.test/ns/a/sa/b'] }), `${source}.principals.0`, /without spiffe/],
  'a prefix with its scheme': [ofSource({ principals: ['spiffe://mesh.test/*'] }), `${source}.principals.0`, /without spiffe/],
  'a star in the middle of a principal': [ofSource({ principals: ['mesh.test/ns/*/sa/b'] }), `${source}.principals.0`, /middle/],
  'two stars': [ofSource({ principals: ['*/ns/a/sa/*'] }), `${source}.principals.0`, /middle|once/],
  'a principal with capitals in its domain': [ofSource({ principals: ['Mesh.test/ns/a/sa/b'] }), `${source}.principals.0`, /trust domain/],
  'a trust domain alone': [ofSource({ principals: ['mesh.test'] }), `${source}.principals.0`, /nobody/],
  'the begin of foreign trust domains': [ofSource({ principals: ['part*'] }), `${source}.principals.0`, /none begins so/],
  'a star in the middle of a namespace': [ofSource({ namespaces: ['a*b'] }), `${source}.namespaces.0`, /middle/],
  'service accounts with namespaces': [ofSource({ serviceAccounts: ['a'], namespaces: ['b'] }), source, /service accounts are not for/],
  'notServiceAccounts with notPrincipals': [
    ofSource({ notServiceAccounts: ['a'], notPrincipals: ['*'] }), source, /service accounts are not for/
  ],
  'a star in a service account': [ofSource({ serviceAccounts: ['a*'] }), `${source}.serviceAccounts.0`, /star/],
  'a service account of three parts': [ofSource({ serviceAccounts: ['a/b/c'] }), `${source}.serviceAccounts.0`, /ACCOUNT/],
  'a service account without a name': [ofSource({ notServiceAccounts: ['a/'] }), `${source}.notServiceAccounts.0`, /ACCOUNT/],
  'seventeen service accounts': [ofSource({ serviceAccounts: Array.from({ length: 17 }, (_, i) => `a${i}`) }),
    `${source}.serviceAccounts`, /16/],
  'more values than a list may have': [ofSource({ namespaces: Array.from({ length: 1_001 }, (_, i) => `n${i}`) }),
    `${source}.namespaces`, /1000/],
  'a value that is too long': [ofSource({ namespaces: ['n'.repeat(2_049)] }), `${source}.namespaces.0`, /2048/],
  'a request principal without a subject': [ofSource({ requestPrincipals: ['issuer'] }),
    `${source}.requestPrincipals.0`, /ISSUER\/SUBJECT/],
  'a star that ends an issuer which is a URL': [ofSource({ requestPrincipals: ['https://issuer*'] }),
    `${source}.requestPrincipals.0`, /URL/],
  'seven issuers that must not be': [ofSource({ notRequestPrincipals: Array.from({ length: 7 }, (_, i) => `i${i}/*`) }),
    `${source}.notRequestPrincipals`, /more than 6 issuers/],
  'request principals that multiply': [{ rules: [{
    from: [{ source: { requestPrincipals: Array.from({ length: 40 }, (_, i) => `i${i}/*`) } }],
    when: [{ key: 'request.auth.principal', values: Array.from({ length: 40 }, (_, i) => `i${i}/*`) }]
  }] }, 'spec.rules.0', /more than 1000 alternatives/],
  'no address': [ofSource({ ipBlocks: ['10.0.0'] }), `${source}.ipBlocks.0`, /IP address/],
  'a network with too many bits': [ofSource({ remoteIpBlocks: ['10.0.0.0/33'] }), `${source}.remoteIpBlocks.0`, /IP address/],
  'an address with a zone': [ofSource({ notIpBlocks: ['fe80::1%eth0'] }), `${source}.notIpBlocks.0`, /IP address/],
  'a port beyond 65535': [ofOperation({ ports: ['65536'] }), `${operation}.ports.0`, /0 to 65535/],
  'a port by name': [ofOperation({ notPorts: ['http'] }), `${operation}.notPorts.0`, /0 to 65535/],
  'a path without a slash': [ofOperation({ paths: ['admin'] }), `${operation}.paths.0`, /slash/],
  'a path with a query': [ofOperation({ paths: ['/a?b'] }), `${operation}.paths.0`, /query/],
  'a star in the middle of a path': [ofOperation({ paths: ['/a/*/b'] }), `${operation}.paths.0`, /middle/],
  'a path that no server agrees on': [ofOperation({ paths: ['/a//b'] }), `${operation}.paths.0`, /disagree/],
  'a path with needless escapes': [ofOperation({ paths: ['/%61'] }), `${operation}.paths.0`, /write \/a/],
  'braces around a name': [ofOperation({ paths: ['/a/{id}'] }), `${operation}.paths.0`, /\{\*\}/],
  'a brace that closes none': [ofOperation({ notPaths: ['/a}'] }), `${operation}.notPaths.0`, /braces/],
  'an operator after {**}': [ofOperation({ paths: ['/{**}/a/{*}'] }), `${operation}.paths.0`, /\{\*\*\}/],
  'a template beside other characters': [ofOperation({ paths: ['/a{*}'] }), `${operation}.paths.0`, /whole segments/],
  'a template with a star': [ofOperation({ paths: ['/{*}/a*'] }), `${operation}.paths.0`, /whole segments/],
  'a star in the middle of a host': [ofOperation({ hosts: ['a.*.b'] }), `${operation}.hosts.0`, /middle/],
  'a condition without values': [ofCondition({ key: 'source.ip' }), condition, /values or notValues/],
  'a condition with empty lists': [ofCondition({ key: 'source.ip', values: [] }), condition, /values or notValues/],
  'a condition without a key': [ofCondition({ values: ['x'] }), `${condition}.key`, /is required/],
  'an unknown condition': [ofCondition({ key: 'source.labels[app]', values: ['x'] }),
    `${condition}.key`, /not known; known here: .*source\.ip/],
  'a condition of old': [ofCondition({ key: 'destination.namespace', values: ['x'] }), `${condition}.key`, /not known/],
  'a condition that every object has': [ofCondition({ key: 'constructor', values: ['x'] }), `${condition}.key`, /not known/],
  'metadata of Envoy\'s filters': [ofCondition({ key: 'experimental.envoy.filters.network.mysql_proxy[db.table]', values: ['[update]'] }),
    `${condition}.key`, /experimental\.envoy\.filters\.network\.mysql_proxy\[db\.table\] is Envoy's own/],
  'inline headers': [ofCondition({ key: 'request.experimental.inline.headers[x]', values: ['x'] }), `${condition}.key`, /experimental/],
  'headers without a name': [ofCondition({ key: 'request.headers', values: ['x'] }), `${condition}.key`, /not known/],
  'a pseudo-header': [ofCondition({ key: 'request.headers[:path]', values: ['x'] }), `${condition}.key`, /pseudo-header/],
  'claims with an empty name': [ofCondition({ key: 'request.auth.claims[a][]', values: ['x'] }), `${condition}.key`, /claims\[NAME\]/],
  'source.ip that is none': [ofCondition({ key: 'source.ip', notValues: ['x'] }), `${condition}.notValues.0`, /IP address/],
  'destination.port that is none': [ofCondition({ key: 'destination.port', values: ['x'] }), `${condition}.values.0`, /0 to 65535/]
}

t.test('what cannot be said is refused by name, with its place', t => {
  for (const [what, [spec, key, rule]] of Object.entries(refused)) {
    const { problems } = read([policy('foo/p', spec)])
    t.ok(problems.includes(`policies.json: ${key}: `), `${what}: names ${key} (${problems})`)
    t.match(problems, rule, what)
  }
  t.end()
})

t.test('metadata', t => {
  const whole = policy('foo/p', {})
  const standard = {
    uid: 'x', resourceVersion: '7', creationTimestamp: '2026-01-01T00:00:00Z', generation: 1, managedFields: [], labels: { a: 'b' },
    annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}' }
  }
  const exported = { ...whole, metadata: { ...whole.metadata, ...standard }, status: { conditions: [] } }
  t.equal(read([exported]).problems, '', 'Kubernetes\' own is known')
  t.equal(read([{ ...whole, spec: undefined }]).rules, 1, 'no spec is an empty one')
  const wrong = (metadata: object) => read([{ ...whole, metadata: { ...whole.metadata, ...metadata } }]).problems
  t.match(wrong({ namespace: undefined }), /metadata\.namespace: is required/)
  t.match(wrong({ namespace: 'Foo' }), /metadata\.namespace: must be the name of a namespace/)
  t.match(wrong({ name: 'a/b' }), /metadata\.name: must be the name/)
  t.match(wrong({ labelz: {} }), /metadata\.labelz: unknown key; did you mean labels\?/)
  t.match(wrong({ labels: { 'istio.io/rev': 'canary' } }), /metadata\.labels: istio\.io\/rev is for one revision/)
  t.match(wrong({ annotations: { 'istio.io/dry-run': 'yes' } }), /istio\.io\/dry-run: must be "true" or "false"/)
  t.match(read([whole, whole]).problems, /metadata\.name: there is a policy foo\/p already/)
  t.equal(read([whole, policy('bar/p', {})]).problems, '', 'the same name in another namespace is another policy')
  t.end()
})

t.test('documents', t => {
  const whole = policy('foo/p', {})
  t.ok(claims(whole) && claims({ apiVersion: 'security.istio.io/v1beta1', kind: 'AuthorizationPolicy' }), 'Istio\'s are claimed')
  for (const other of [null, 7, {}, { apiVersion: 'assay/v1', kind: 'Policy' }, { apiVersion: 'v1', kind: 'List', items: [{}] }]) {
    t.notOk(claims(other), `${JSON.stringify(other)} is none`)
  }
  t.equal(read([{ ...whole, apiVersion: 'security.istio.io/v1beta1' }]).rules, 1, 'v1beta1')
  t.match(read([{ ...whole, apiVersion: 'security.istio.io/v1alpha1' }]).problems, /apiVersion: must be one of security\.istio\.io\/v1, /)
  t.match(read([{ ...whole, kind: 'RequestAuthentication' }]).problems, /kind: must be AuthorizationPolicy/)

  const list = { apiVersion: 'v1', kind: 'List', metadata: { resourceVersion: '' }, items: [whole, policy('bar/p', { action: 'NO' })] }
  t.match(read([list]).problems, /^policies\.json: items\.1\.spec\.action: /, 'a list\'s problems name the member')
  t.equal(read([{ ...list, items: [whole] }]).rules, 1, 'a list is its members')
  t.match(read([{ ...list, items: [whole, { apiVersion: 'v1', kind: 'Secret' }] }]).problems, /items\.1\.kind: must be Auth/)

  const yaml = 'apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\n  namespace: foo\n' +
    'spec:\n  rules:\n  - to:\n    - operation:\n        paths: ["/a", "b"]\n'
  const settings = 'apiVersion: assay/v1\nkind: Settings\ntrustDomain: mesh.test\ndefaultAction: allow\n'
  t.throws(() => readPolicies([{ name: 'p.yaml', text: `${settings}---\n${yaml}` }], { foreign: [istioDocuments()] }), {
    code: 'policy_malformed', message: /p\.yaml:15: spec\.rules\.0\.to\.0\.operation\.paths\.1: a path begins with a slash/
  }, 'with the line')
  t.throws(() => readPolicies([{ name: 'p.yaml', text: yaml }], { foreign: [istioDocuments()] }), {
    code: 'policy_malformed', message: /p\.yaml:1: Istio's policies need a document of kind Settings .*trustDomain.*defaultAction: allow/
  }, 'without Settings nobody knows what is left open')
  t.end()
})

t.test('options', t => {
  const set = readMesh([policy('root/p', { action: 'DENY', rules: [{}] }), policy('istio-system/p', { action: 'DENY', rules: [{}] })],
    { rootNamespace: 'root' })
  t.same(set.rules.map(({ name, target }) => [name, target.length]), [['root/p/0', 0], ['istio-system/p/0', 1]], 'another root namespace')
  const words = readMesh([policy('foo/p', ofCondition({ key: 'request.auth.claims[team][roles]', values: ['x'] }))],
    { spaceDelimitedClaims: ['team.roles'] })
  const fact = { name: 'claim', path: ['team', 'roles'], spaceDelimited: true }
  t.same(words.rules[0]?.when[0]?.fact, fact, 'more claims that are lists of words')
  t.end()
})

/** @returns the problems, one a line, or the number of rules */
function read (policies: readonly unknown[]): { problems: string, rules: number } {
  const settings = { trustDomain: 'mesh.test', trustDomainAliases: [], defaultAction: 'allow' } as const
  try {
    const text = JSON.stringify(policies)
    return { problems: '', rules: readPolicies([{ name: 'policies.json', text }], {
      settings: settings as never, foreign: [istioDocuments()]
    }).rules.length }
  } catch (error) {
    return { problems: (error as SpiffeError).message, rules: 0 }
  }
}

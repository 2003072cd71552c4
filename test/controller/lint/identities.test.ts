import t from 'tap'
import { codesOf, identity, narrow, partner, staticEntry, usualTemplate } from './manifests.ts'

const one = (spec: object, trustDomain?: string) =>
  codesOf([identity('a', spec)], { trustDomain }).map(found => found.replace(' ClusterSPIFFEID/a', ''))
const of = (spec: object) => one({ spiffeIDTemplate: usualTemplate, ...spec })
const by = (key: string, operator: string, ...values: string[]) =>
  ({ matchExpressions: [{ key, operator, ...values.length > 0 ? { values } : {} }] })
const web = { matchLabels: { app: 'web' } }

void t.test('which pods a ClusterSPIFFEID means', async t => {
  t.same(of(narrow), [], 'some of some namespaces')
  t.same(of({}), ['every-pod'], 'without selectors: all')
  t.same(of({ podSelector: {}, namespaceSelector: { matchLabels: {} } }), ['every-pod'], 'empty ones are none')
  t.same(of({ fallback: true }), [], 'all that have nothing else')
  t.same(of({ podSelector: web }), ['every-namespace'], 'by what anybody can write on a pod')
  t.same(of({ namespaceSelector: by('kubernetes.io/metadata.name', 'NotIn', 'kube-system') }), ['all-but-some'], 'of all namespaces but')
  t.same(of({ namespaceSelector: by('kubernetes.io/metadata.name', 'NotIn', 'a'), podSelector: web }), ['all-but-some', 'system-namespace'])
  t.same(of({ podSelector: by('app', 'DoesNotExist') }), ['every-namespace', 'all-but-some'])
  t.same(of({ namespaceSelector: by('kubernetes.io/metadata.name', 'In', 'kube-system', 'a') }), ['system-namespace'])
  t.same(of({ namespaceSelector: by('team', 'Exists') }), [], 'all of namespaces that have a label on purpose')
})

void t.test('what many pods must not have', async t => {
  for (const field of ['admin', 'downstream']) {
    t.same(of({ ...narrow, [field]: true }), [], `${field} for a few`)
    for (const selectors of [{}, { podSelector: web }, { namespaceSelector: web }, { ...narrow, podSelector: by('app', 'NotIn', 'x') }]) {
      t.ok(of({ ...selectors, [field]: true }).includes(`${field}-for-many`), `${field} by ${JSON.stringify(selectors)}`)
    }
    t.notOk(of({ [field]: false }).includes(`${field}-for-many`))
  }
})

void t.test('whose ID it is', async t => {
  const literal = 'spiffe://td/web'
  t.same(one({ spiffeIDTemplate: literal, ...narrow }), [], 'one ID for one application')
  t.same(one({ spiffeIDTemplate: literal }), ['one-id-for-all', 'every-pod'], 'for all')
  t.same(one({ spiffeIDTemplate: 'spiffe://td/{{ .NodeMeta.Name }}', fallback: true }), ['one-id-for-all'], 'a node is no pod')
  t.same(one({ spiffeIDTemplate: literal, namespaceSelector: web }), ['one-id-for-namespace'])
  t.same(one({ spiffeIDTemplate: 'spiffe://td/{{ with .PodMeta }}{{ .Name }}{{ end }}', fallback: true }), [], 'of the pod, by another dot')
  const chosen = 'spiffe://td/{{ index .PodMeta.Annotations "example.org/id" }}'
  t.same(one({ spiffeIDTemplate: chosen, podSelector: web }), ['every-namespace', 'identity-chosen-by-pod'], 'whatever a pod says')
  t.same(one({ spiffeIDTemplate: chosen, ...narrow }), [], 'in namespaces that are chosen')
  t.same(one({ spiffeIDTemplate: `${chosen}/{{ .PodMeta.Namespace }}`, fallback: true }), [], 'below its namespace')
})

void t.test('templates that render nothing, or too much', async t => {
  const template = (spiffeIDTemplate: string, trustDomain?: string) => one({ spiffeIDTemplate, ...narrow }, trustDomain)
  t.same(template('spiffe://{{ .Pod.Namespace }}/x'), ['template-leaves-trust-domain', 'unknown-template-value'])
  t.same(template('spiffe://td/{{ .Pod.Namespace }}/{{ .trustDomain }}'), ['unknown-template-value', 'unknown-template-value'])
  t.same(template('spiffe://td/{{ "{} .Nothing" }}'), [], 'a text is no action')
  t.same(template('spiffe://td/{{/* .Nothing "*/}}x'), [], 'nor is a comment')
  const moved = 'spiffe://td/{{ range .PodSpec.Containers }}{{ .Name }}{{ $.Nothing }}{{ end }}'
  t.same(template(moved), ['unknown-template-value'], 'the root by $')
  t.same(template('spiffe://td/{{ if .PodMeta.Name }}x'), ['template-malformed'], 'an if without end')
  t.same(template('spiffe://td/{{ if .PodMeta.Name }}x{{- else }}y{{ end -}}'), [])
  t.same(template('spiffe://td/{{ .PodMeta.Name'), ['template-malformed'])
  t.same(template('spiffe://td/{{}}'), ['template-malformed'])
  t.same(template(`spiffe://td/${'x'.repeat(5_000)}`), ['value-malformed'])
  t.same(template('spiffe://td/x', 'other'), ['foreign-trust-domain'])
  t.same(template('spiffe://other/x', 'other'), [])
  t.same(template(usualTemplate, 'other'), [])
  t.same(of({ ...narrow, dnsNameTemplates: ['{{ .Nope }}', '{{'], workloadSelectorTemplates: ['k8s', '{{ .PodMeta.Name }}'] }),
    ['unknown-template-value', 'template-malformed', 'value-malformed'])
  const before = process.cpuUsage()
  template(`spiffe://td/${'{{"'.repeat(1_300)}`)
  t.ok(process.cpuUsage(before).user < 10_000_000, 'none takes seconds of CPU')
})

void t.test('lifetimes', async t => {
  const lives = (spec: object) => of({ ...narrow, ...spec })
  for (const ttl of ['0s', '1m', '1h30m', '24h']) t.same(lives({ ttl }), [], `X509-SVIDs of ${ttl}`)
  for (const ttl of ['59s', '1s']) t.same(lives({ ttl }), ['ttl-short'], ttl)
  t.same(lives({ ttl: '25h' }), ['ttl-long'])
  t.same(lives({ ttl: '500ms' }), ['ttl-not-whole'])
  for (const ttl of ['', 'soon', '-1h', 60]) t.same(lives({ ttl }), ['value-malformed'], String(ttl))
  t.same(lives({ jwtTtl: '5s' }), [], 'a JWT-SVID is for one call')
  t.same(lives({ jwtTtl: '2h' }), ['ttl-long'])
  const vm = { spiffeID: 'spiffe://td/vm', parentID: 'spiffe://td/node', selectors: ['unix:uid:1'] }
  t.same(codesOf([staticEntry('vm', { ...vm, x509SVIDTTL: '10s', jwtSVIDTTL: '2h' })]), [
    'ttl-short ClusterStaticEntry/vm', 'ttl-long ClusterStaticEntry/vm'
  ])
})

void t.test('several resources', async t => {
  const same = (a: object, b: object, spiffeIDTemplate = usualTemplate) => codesOf([
    identity('a', { spiffeIDTemplate, ...narrow, ...a }),
    identity('b', { spiffeIDTemplate: spiffeIDTemplate.replaceAll(' ', ''), ...narrow, ...b })
  ])
  const duplicate = ['duplicate-id ClusterSPIFFEID/b']
  t.same(same({}, {}), duplicate, 'pods that both select')
  t.same(same({}, { podSelector: { matchLabels: { app: 'db' } } }), [], 'other pods, and their own IDs')
  t.same(same({}, { podSelector: by('app', 'NotIn', 'web') }), [])
  t.same(same({}, { podSelector: by('app', 'DoesNotExist') }), [])
  t.same(same({}, { podSelector: by('app', 'In', 'web', 'db') }), duplicate)
  t.same(same({}, { podSelector: { matchLabels: { app: 'db' } } }, 'spiffe://td/web'), duplicate, 'other pods, one ID')
  t.same(same({ className: 'east' }, { className: 'west' }), [], 'for different controllers')
  t.same(same({}, { fallback: true }), [], 'one where the other does not count')

  const vm = { spiffeID: 'spiffe://td/vm', parentID: 'spiffe://td/node', selectors: ['unix:uid:1', 'unix:gid:2'] }
  t.same(codesOf([
    staticEntry('a', vm),
    staticEntry('b', { ...vm, selectors: ['unix:gid:2', 'unix:uid:1'] }),
    staticEntry('c', { ...vm, selectors: ['x:y'] })
  ]), ['duplicate-entry ClusterStaticEntry/b'])
  t.same(codesOf([partner('p.example'), partner('p.example', { trustDomain: 'spiffe://p.example' })]),
    ['duplicate-trust-domain ClusterFederatedTrustDomain/p.example'])
  const many = Array.from({ length: 301 }, (_, index) => identity(`i${index}`, { spiffeIDTemplate: usualTemplate, ...narrow }))
  t.same(codesOf(many), ['not-all-compared ClusterSPIFFEID/i0'])
})

void t.test('partners', async t => {
  const caller = identity('a', { spiffeIDTemplate: usualTemplate, ...narrow, federatesWith: ['p.example'] })
  const spiffe = { type: 'https_spiffe', endpointSPIFFEID: 'spiffe://p.example/spire/server' }
  t.same(codesOf([caller, partner('p.example')]), [])
  t.same(codesOf([caller]), ['no-federation-plan ClusterSPIFFEID/a'])
  t.same(codesOf([caller, partner('p.example'), partner('q.example')]), ['federation-unused ClusterFederatedTrustDomain/q.example'])
  t.same(codesOf([partner('q.example')]), [], 'entries may be elsewhere')
  t.same(codesOf([caller, partner('p.example', { bundleEndpointProfile: spiffe })]), [
    'first-bundle-missing ClusterFederatedTrustDomain/p.example'
  ])
  t.same(codesOf([caller, partner('p.example', { bundleEndpointProfile: spiffe, trustDomainBundle: '{"keys": []}' })]), [])
  t.same(codesOf([caller, partner('p.example', { bundleEndpointProfile: { ...spiffe, endpointSPIFFEID: 'spiffe://q.example/x' } })]), [],
    'an endpoint of another trust domain is known by that one\'s bundle')
})

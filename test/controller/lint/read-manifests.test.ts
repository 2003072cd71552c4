import t from 'tap'
import fc from 'fast-check'
import { lintManifests } from '../../../src/controller/lint/lint-manifests.ts'
import { readManifests } from '../../../src/controller/lint/manifest.ts'

const stream = `# Helm leaves empty documents
---
apiVersion: v1
kind: List
items:
- apiVersion: spire.spiffe.io/v1alpha1
  kind: ClusterSPIFFEID
  metadata:
    name: web
  spec:
    spiffeIDTemplate: spiffe://td/web
    namespaceSelector:
      matchNames: [shop]
---
---
apiVersion: spire.spiffe.io/v1alpha1
kind: ClusterStaticEntry
metadata: {name: vm}
spec: {spiffeID: "spiffe://td/vm", parentID: "spiffe://td/node", selectors: [unix]}
`

void t.test('streams of YAML documents', async t => {
  const findings = lintManifests(readManifests('all.yaml', stream))
  t.same(findings.map(({ code, where, about }) => `${where} ${code} ${about}`), [
    'all.yaml:13 unknown-field ClusterSPIFFEID/web',
    'all.yaml:11 one-id-for-all ClusterSPIFFEID/web',
    'all.yaml:19 value-malformed ClusterStaticEntry/vm',
    'all.yaml:11 every-pod ClusterSPIFFEID/web'
  ], 'each with its line, the worst first')
  for (const [text, message] of [
    ['{', /x:1: not valid YAML/], ['- 1', /x:1 has no apiVersion or no kind/], ['kind: Pod', /no apiVersion/],
    ['apiVersion: v1\nkind: List\nitems: [3]', /no apiVersion/]
  ] as const) t.throws(() => readManifests('x', text), { code: 'file_unusable', message }, text)
})

void t.test('anything may stand anywhere', async t => {
  const kinds = [
    'ClusterSPIFFEID', 'ClusterStaticEntry', 'ClusterFederatedTrustDomain', 'ConfigMap', 'Deployment', 'Pod', 'HorizontalPodAutoscaler'
  ]
  const fields = [
    'spec', 'data', 'template', 'podSelector', 'namespaceSelector', 'matchExpressions', 'matchLabels', 'values', 'containers', 'ttl',
    'spiffeIDTemplate', 'selectors', 'federatesWith', 'bundleEndpointProfile', 'volumes', 'configMap', 'args', 'image', 'metadata', 'server'
  ]
  const texts = ['spiffe://a/{{ .PodMeta.Name }}', '{{', '1h']
  const value = fc.letrec(tie => ({
    any: fc.oneof({ maxDepth: 5 }, fc.string(), fc.integer(), fc.boolean(), fc.constant(null), fc.constantFrom(...texts),
      fc.array(tie('any'), { maxLength: 3 }), fc.dictionary(fc.constantFrom(...fields), tie('any'), { maxKeys: 6 }))
  })).any
  const object = fc.tuple(fc.constantFrom(...kinds), fc.dictionary(fc.constantFrom('spec', 'data', 'metadata'), value))
    .map(([kind, rest]) => ({ ...rest, apiVersion: 'spire.spiffe.io/v1alpha1', kind }))
  fc.assert(fc.property(fc.array(object, { maxLength: 4 }), objects => {
    for (const { message, next } of lintManifests(readManifests('x', JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects })))) {
      if (message === '' || next === '') return false
    }
    return true
  }))
  t.pass('and nothing is thrown')
})

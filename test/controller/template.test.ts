import t from 'tap'
import { parseTemplate } from '../../src/golang/template/parse-template.ts'
import { admitAny, admitInSegment, renderTemplate } from '../../src/golang/template/render-template.ts'
import { keptOf, parentFields, podFields } from '../../src/controller/kubernetes/template-fields.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'

const data = {
  trustDomain: 'example.org', clusterName: 'demo', clusterDomain: 'cluster.local',
  podMeta: keptOf('meta', {
    name: 'web-1', namespace: 'shop', uid: 'p-uid', labels: { app: 'web', 'app.kubernetes.io/name': 'web-x', empty: '' },
    annotations: {
      path: 'a/b', up: '..', query: 'x?y', percent: '%2e', unicode: 'ü', newline: 'a\nb', most: 'x'.repeat(1_000), long: 'x'.repeat(3_000)
    },
    ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web', uid: 'o-uid' }], managedFields: [{ manager: 'kubectl' }]
  }),
  podSpec: keptOf('pod', {
    serviceAccountName: 'seller', nodeName: 'worker-1', hostNetwork: true, priority: 7,
    containers: [
      { name: 'main', image: 'registry.test/web:1', env: [{ name: 'PASSWORD', value: 'secret' }] }, { name: 'side', image: 'side:2' }
    ]
  }),
  nodeMeta: keptOf('meta', { name: 'worker-1', uid: 'n-uid', labels: { 'topology.kubernetes.io/zone': 'a' } }),
  nodeSpec: keptOf('node', { podCIDR: '10.0.0.0/24', providerID: 'aws:///x' })
}

function render (source: string, admit = admitInSegment): string {
  return renderTemplate(parseTemplate(source, podFields), data, admit)
}

/** What it is refused with. */
function refusal (source: string, admit = admitInSegment): string {
  try {
    return `taken: ${render(source, admit)}`
  } catch (error) {
    if (error instanceof SpiffeError) return `${error.code}: ${error.message}`
    throw error
  }
}

void t.test('what templates of IDs say', async t => {
  const table: Record<string, string> = {
    'spiffe://{{ .TrustDomain }}/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}': 'spiffe://example.org/shop/sa/seller',
    '{{.ClusterName}}.{{ .ClusterDomain }}': 'demo.cluster.local',
    '{{ .PodMeta.Labels.app }}': 'web',
    '{{ index .PodMeta.Labels "app.kubernetes.io/name" }}': 'web-x',
    '{{ index .PodMeta.Labels `app` }}': 'web',
    '[{{ index .PodMeta.Labels "none" }}]': '[]',
    '{{ index .NodeMeta.Labels "topology.kubernetes.io/zone" }}/{{ .NodeMeta.UID }}': 'a/n-uid',
    '{{ (index .PodSpec.Containers 1).Name }}': 'side',
    '{{ (index .PodMeta.OwnerReferences 0).Kind }}': 'ReplicaSet',
    '{{ printf "ns/%s/%s" .PodMeta.Namespace .PodMeta.Name }}': 'ns/shop/web-1',
    '{{ .PodMeta.Namespace | printf "%s-%s" "x" }}': 'x-shop',
    '{{ print "a" .PodMeta.Name 1 2 true }}': 'aweb-11 2 true',
    '{{ len .PodSpec.Containers }}{{ len .PodMeta.Name }}': '25',
    '{{ slice .PodMeta.Name 0 3 }}': 'web',
    '{{ if .PodMeta.Labels.app }}a{{ else }}b{{ end }}': 'a',
    '{{ if .PodMeta.Labels.none }}a{{ else }}b{{ end }}': 'b',
    '{{ if eq .PodMeta.Namespace "a" "shop" }}yes{{ end }}': 'yes',
    '{{ if and .PodSpec.HostNetwork (gt .PodSpec.Priority 5) }}host{{ end }}': 'host',
    '{{ if false }}a{{ else if not .PodSpec.HostPID }}b{{ else }}c{{ end }}': 'b',
    '{{ or .PodMeta.Labels.none .PodMeta.Labels.app }}': 'web',
    '{{ with .PodMeta.Labels.app }}{{ . }}-{{ $.ClusterName }}{{ end }}': 'web-demo',
    '{{ with .PodMeta }}{{ .Name }}{{ end }}': 'web-1',
    'a {{- /* why */ -}} b': 'ab',
    'x {{- " y" }}': 'x y',
    '{{ ne .PodMeta.Name "x" }} {{ lt 1 2 }} {{ le 2 2 }} {{ ge 1 2 }}': 'true true true false'
  }
  for (const [source, expected] of Object.entries(table)) t.equal(render(source), expected, source)
  t.equal(render('{{ (index .PodSpec.Containers 0).Image }}', admitAny), 'registry.test/web:1', 'a selector may hold what an ID may not')
})

void t.test('nothing that a pod says leaves its path segment (SPIFFE-ID §2.2)', async t => {
  for (const [name, wrong] of Object.entries({ path: '/', query: '?', percent: '%', unicode: 'ü', newline: '\\n' })) {
    for (const source of [
      `spiffe://example.org/{{ .PodMeta.Annotations.${name} }}`,
      `spiffe://example.org/{{ index .PodMeta.Annotations "${name}" }}`,
      `{{ printf "spiffe://example.org/%s" .PodMeta.Annotations.${name} }}`,
      `{{ .PodMeta.Annotations.${name} | print }}`,
      `{{ with .PodMeta.Annotations.${name} }}{{ . }}{{ end }}`,
      `{{ slice .PodMeta.Annotations.${name} 0 2 }}`,
      `{{ or .PodMeta.Annotations.${name} "x" }}`
    ]) {
      const said = refusal(source)
      t.ok(said.startsWith('template_not_rendered: .PodMeta.Annotations') && said.includes(`holds "${wrong}`), source)
    }
  }
  t.match(refusal('{{ .NodeSpec.PodCIDR }}'), /\.NodeSpec\.PodCIDR holds "\/"/, 'nor what a node says')
  t.match(refusal('{{ (index .PodSpec.Containers 0).Image }}'), /Image holds "\/"/)
  t.equal(render('x{{ .PodMeta.Annotations.up }}y'), 'x..y', 'dots are characters of a segment; alone they are refused with the whole ID')
  t.match(refusal('{{ printf .PodMeta.Annotations.up }}'), /first argument of printf must be a constant/)
})

void t.test('what is not there', async t => {
  t.match(refusal('{{ .PodMeta.Labels.none }}'), /template_not_rendered: there is no \.PodMeta\.Labels "none"/)
  t.match(refusal('{{ print .PodMeta.Labels.none }}'), /there is no/)
  t.match(refusal('{{ index .PodSpec.Containers 2 }}'), /has 2 items, and none with the number 2/)
  t.match(refusal('{{ .PodMeta.Annotations.long }}'), /there is no/, 'values that no ID could hold are not kept')
  t.match(refusal('{{ .PodMeta.Labels }}'), /\.PodMeta\.Labels is no text/)
  t.match(refusal('{{ nil }}'), /nil is no text/)
  t.notOk(JSON.stringify(data).includes('secret'), 'values of variables are not kept')
})

void t.test('what is refused is named, with its place', async t => {
  const table: Record<string, RegExp> = {
    '{{ range .PodSpec.Containers }}{{ .Name }}{{ end }}': /at character 4: \{\{ range \}\} is not offered/,
    '{{ define "x" }}{{ end }}': /define/,
    'spiffe://x/{{ call .PodMeta }}': /at character 15: the function call is not offered/,
    '{{ html .PodMeta.Name }}': /html is not offered/,
    '{{ lower .PodMeta.Name }}': /at character 4: there is no function lower; offered are and, or/,
    '{{ $x := .PodMeta.Name }}': /variables \(\$x\) are not offered/,
    '{{ .PodMeta.Nmae }}': /there is no field \.Nmae of \.PodMeta; offered are Name/,
    '{{ .PodMeta.namespace }}': /there is no field \.namespace/,
    '{{ .Podmeta.Name }}': /there is no field \.Podmeta; offered are TrustDomain/,
    '{{ .PodSpec.Volumes }}': /there is no field \.Volumes/,
    '{{ .PodMeta.Name': /\{\{ is not closed/,
    '{{ "abc }}': /a quote is not closed/,
    '{{ }}': /a value is missing/,
    '{{ if .PodMeta.Name }}': /\{\{ if \}\} has no \{\{ end \}\}/,
    '{{ end }}': /end \}\} without/,
    '{{ .PodMeta.Name "x" }}': /takes no arguments/,
    '{{ .PodMeta.Name | .PodMeta.UID }}': /what follows \| must be a function/,
    '{{ print 1.5 }}': /the number 1\.5 is not offered/,
    "{{ print 'a' }}": /character constant/,
    '{{ print "\\400" }}': /escape/,
    '{{ print (print (1) }}': /unexpected/
  }
  for (const [source, expected] of Object.entries(table)) {
    const said = refusal(source)
    t.match(said, expected, source)
    t.match(said, /^template_malformed: at character \d+: /, source)
  }
  const ofPod = { code: 'template_malformed', message: /\.PodMeta/ }
  t.throws(() => parseTemplate('{{ .PodMeta.Name }}', parentFields), ofPod, 'a parent has no pod')
  t.throws(() => parseTemplate('x'.repeat(20_000), podFields), { code: 'template_malformed' }, 'too long')
  t.throws(() => parseTemplate(`{{ ${'('.repeat(100)}1${')'.repeat(100)} }}`, podFields), { message: /nested deeper/ })
  t.match(refusal('{{ index .PodMeta.Annotations "most" }}'.repeat(9), admitAny), /longer than 8192 bytes/, 'as is what is rendered')
})

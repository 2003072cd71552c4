/** Custom resources of `spire.spiffe.io/v1alpha1`, by what each shows. */
type Examples = Readonly<Record<string, object>>

/** What SPIRE's users have: each must be taken as it is. */
export const taken: Examples = {
  'an ID from namespace and account, of pods with a label': identity({
    spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}',
    podSelector: { matchLabels: { 'spiffe.io/spire-managed-identity': 'true' } }
  }),
  'one for all pods that have no other': identity({
    spiffeIDTemplate: 'spiffe://{{.TrustDomain}}/ns/{{.PodMeta.Namespace}}/sa/{{.PodSpec.ServiceAccountName}}',
    fallback: true,
    hint: 'default'
  }),
  'a trust domain by its name, and no variable': identity({
    spiffeIDTemplate: 'spiffe://cluster2.demo/greeter-client', podSelector: { matchLabels: { app: '' } }, federatesWith: ['cluster1.demo']
  }),
  'all fields': identity({
    className: 'east',
    spiffeIDTemplate: 'spiffe://{{- .TrustDomain -}}/cluster/{{ .ClusterName }}/node/{{ .NodeMeta.Name }}/{{ .PodMeta.UID }}',
    ttl: '1h30m',
    jwtTtl: '5m0s',
    dnsNameTemplates: ['{{ .PodMeta.Name }}.{{ .PodMeta.Namespace }}.svc.{{ .ClusterDomain }}', 'web.example.org'],
    workloadSelectorTemplates: [
      'k8s:ns:{{ .PodMeta.Namespace }}', 'k8s:container-image:registry.example/web@sha256:00', '{{ index .PodMeta.Annotations "selector" }}'
    ],
    federatesWith: ['auditing', 'spiffe://partner.example'],
    namespaceSelector: {
      matchLabels: { 'kubernetes.io/metadata.name': 'shop' },
      matchExpressions: [
        { key: 'example.org/team', operator: 'In', values: ['a', 'b'] }, { key: 'env', operator: 'NotIn', values: ['dev', ''] },
        { key: 'backend', operator: 'Exists' }, { key: 'legacy', operator: 'DoesNotExist', values: [] }
      ]
    },
    podSelector: {},
    admin: false,
    downstream: true,
    autoPopulateDNSNames: true,
    fallback: false,
    hint: 'internal'
  }),
  'as the Go types of spire-controller-manager write one back': identity({
    spiffeIDTemplate: 'spiffe://td/x', ttl: '0s', jwtTtl: '0s', className: ''
  }),
  'branches, over several lines': identity({
    spiffeIDTemplate: 'spiffe://{{ $.TrustDomain }}/{{- if eq .PodMeta.Namespace "a" }}one\n{{- else -}}\n  {{ .PodMeta.Name }}{{ end }}'
  }),
  'a segment from an annotation, and braces in a text': identity({
    spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/{{ index .PodMeta.Annotations "example.org/name" }}/{{ printf "%s}" "{" }}'
  }),
  'a static entry with all fields': staticEntry({
    spiffeID: 'spiffe://cluster1.demo/static-spiffe-id',
    parentID: 'spiffe://cluster1.demo/static-parent-id',
    selectors: ['static:one', 'static:two:with:colons'],
    federatesWith: ['cluster2.demo'],
    x509SVIDTTL: '2h',
    jwtSVIDTTL: '6m',
    dnsNames: ['static-dns', '*.web.example.org'],
    hint: 'static-hint',
    admin: true,
    downstream: true,
    storeSVID: true,
    className: 'x'
  }),
  'an alias of nodes': staticEntry({
    spiffeID: 'spiffe://td/cluster/east', parentID: 'spiffe://td/spire/server', selectors: ['k8s_psat:cluster:east']
  }),
  'a partner by its SVID, with a first bundle': partner({
    trustDomain: 'cluster1.demo',
    bundleEndpointURL: 'https://10.0.0.7:8443',
    bundleEndpointProfile: { type: 'https_spiffe', endpointSPIFFEID: 'spiffe://cluster1.demo/spire/server' },
    trustDomainBundle: '{\n  "keys": [],\n  "spiffe_sequence": 1\n}\n'
  }),
  'a partner by its name in the Web PKI': partner({
    trustDomain: 'backend',
    bundleEndpointURL: 'https://somedomain.test/bundle?v=1',
    bundleEndpointProfile: { type: 'https_web' },
    className: ''
  }),
  'a partner at an address of IPv6, fields empty': partner({
    trustDomain: 'backend', bundleEndpointURL: 'HTTPS://[2001:db8::1]:443/', trustDomainBundle: '',
    bundleEndpointProfile: { type: 'https_web', endpointSPIFFEID: '' }
  })
}

const usual = 'spiffe://{{ .TrustDomain }}/x'
const web = { type: 'https_web' }

/** What must be refused, with what the refusal must say. */
export const refused: ReadonlyArray<readonly [string, object, RegExp]> = [
  ...([
    ['that is all of the ID', '{{ .PodMeta.Annotations.id }}'],
    ['whose trust domain a pod chooses', 'spiffe://{{ index .PodMeta.Annotations "td" }}/x'],
    ['whose trust domain has a pod\'s end', 'spiffe://td{{ .PodMeta.Name }}/x'],
    ['whose trust domain has a pod\'s begin', 'spiffe://{{ .PodMeta.Name }}{{ .TrustDomain }}/x'],
    ['that chooses between trust domains', 'spiffe://{{ if .PodMeta.Name }}evil{{ else }}{{ .TrustDomain }}{{ end }}/x'],
    ['with something like the trust domain', 'spiffe://{{ .TrustDomainName }}/x'],
    ['with the trust domain through a function', 'spiffe://{{ printf "%s.evil" .TrustDomain }}/x'],
    ['that ends before the path', 'spiffe://{{ .TrustDomain }}{{ .PodMeta.Name }}'],
    ['without a path', 'spiffe://{{ .TrustDomain }}'],
    ['in capitals', 'spiffe://Example.org/x'],
    ['with a user', 'spiffe://user@td/x'],
    ['with a port', 'spiffe://td:80/x'],
    ['of another scheme', 'https://{{ .TrustDomain }}/x'],
    ['with something before it', ' spiffe://td/x']
  ] as const).map(([what, spiffeIDTemplate]) => [
    `a template ${what}`, identity({ spiffeIDTemplate }), /must begin with spiffe:\/\/\{\{ \.TrustDomain \}\}\//
  ] as const),
  ['an action without an end', identity({ spiffeIDTemplate: 'spiffe://td/{{ .PodMeta.Name }' }), /each \{\{ needs its \}\}/],
  ['a query', identity({ spiffeIDTemplate: 'spiffe://td/x?{{ .PodMeta.Name }}' }), /only A-Z a-z 0-9 \. _ - and \/ are allowed/],
  ['an agent\'s ID', identity({ spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/spire/agent/{{ .PodMeta.Name }}' }), /must not be \/spire/],
  ['the server\'s ID', identity({ spiffeIDTemplate: 'spiffe://td/spire' }), /must not be \/spire/],
  ['an empty segment', identity({ spiffeIDTemplate: 'spiffe://td//x' }), /segment that is empty/],
  ['a slash at the end', identity({ spiffeIDTemplate: 'spiffe://td/x/' }), /must not end with a slash/],
  ['a way up', identity({ spiffeIDTemplate: 'spiffe://td/a/../b' }), /segment that is empty, '\.' or '\.\.'/],
  ['no template', identity({}), /spiffeIDTemplate: Required/],
  ['an empty template', identity({ spiffeIDTemplate: '' }), /spiffeIDTemplate/],
  ['a duration without a unit', identity({ spiffeIDTemplate: usual, ttl: '90' }), /spec\.ttl: .*must be a duration of 0 or more/],
  ['a negative duration', identity({ spiffeIDTemplate: usual, jwtTtl: '-5m' }), /spec\.jwtTtl: .*must be a duration of 0 or more/],
  ['a bundle of what is no trust domain', identity({ spiffeIDTemplate: usual, federatesWith: ['ok', 'Not OK'] }),
    /federatesWith\[1\]: .*trust domain/],
  ['a selector without a value', identity({ spiffeIDTemplate: usual, workloadSelectorTemplates: ['k8s'] }), /type:value/],
  ['a selector that is not closed', identity({ spiffeIDTemplate: usual, workloadSelectorTemplates: ['k8s:ns:{{ .PodMeta.Namespace }'] }),
    /each \{\{ needs its \}\}/],
  ['a DNS name that is not closed', identity({ spiffeIDTemplate: usual, dnsNameTemplates: ['{{ .PodMeta.Name'] }),
    /each \{\{ needs its \}\}/],
  ...([
    ['In without values', { key: 'a', operator: 'In' }, /In and NotIn need values/],
    ['NotIn without values', { key: 'a', operator: 'NotIn', values: [] }, /In and NotIn need values/],
    ['Exists with values', { key: 'a', operator: 'Exists', values: ['b'] }, /Exists and DoesNotExist have no values/],
    ['another operator', { key: 'a', operator: 'Gt', values: ['1'] }, /Unsupported value: \\"Gt\\"/],
    ['a bad key', { key: 'a b', operator: 'Exists' }, /podSelector\.matchExpressions\[0\]\.key/],
    ['a bad value', { key: 'a', operator: 'In', values: ['b c'] }, /matchExpressions\[0\]\.values\[0\]/]
  ] as const).map(([what, one, message]) => [
    `labels: ${what}`, identity({ spiffeIDTemplate: usual, podSelector: { matchExpressions: [one] } }), message
  ] as const),
  ['labels: a bad value of one that must be equal', identity({
    spiffeIDTemplate: usual, namespaceSelector: { matchLabels: { a: 'b/c' } }
  }), /namespaceSelector\.matchLabels\.a/],
  ['a field that does not exist', identity({ spiffeIDTemplate: usual, namespaceSelector: { matchNames: ['a'] } }), /unknown field/],
  ['a static entry of two trust domains', staticEntry({
    spiffeID: 'spiffe://a/x', parentID: 'spiffe://b/y', selectors: ['a:b']
  }), /must be in the same trust domain/],
  ['a static entry of whole trust domain', staticEntry({ spiffeID: 'spiffe://a', parentID: 'spiffe://a/y', selectors: ['a:b'] }),
    /spiffeID: .*must be a SPIFFE ID with a path/],
  ['a static entry for an agent', staticEntry({ spiffeID: 'spiffe://a/spire/agent/x', parentID: 'spiffe://a/y', selectors: ['a:b'] }),
    /must not be \/spire/],
  ['a static entry without selectors', staticEntry({ spiffeID: 'spiffe://a/x', parentID: 'spiffe://a/y', selectors: [] }), /selectors/],
  ['a static entry with a bad selector', staticEntry({ spiffeID: 'spiffe://a/x', parentID: 'spiffe://a/y', selectors: ['unix'] }),
    /must be a selector, type:value/],
  ['a static entry with a bad DNS name', staticEntry({
    spiffeID: 'spiffe://a/x', parentID: 'spiffe://a/y', selectors: ['a:b'], dnsNames: ['a.*.b']
  }), /must be a DNS name/],
  ['a stored SVID by selectors of two types', staticEntry({
    spiffeID: 'spiffe://a/x', parentID: 'spiffe://a/y', selectors: ['a:b', 'c:d'], storeSVID: true
  }), /all selectors must be of one type/],
  ['a partner without TLS', partner({ trustDomain: 'b', bundleEndpointURL: 'http://b.test/', bundleEndpointProfile: web }),
    /must begin with https/],
  ['a partner with a password', partner({ trustDomain: 'b', bundleEndpointURL: 'https://me:x@b.test/', bundleEndpointProfile: web }),
    /must not have a user/],
  ['a partner without a host', partner({ trustDomain: 'b', bundleEndpointURL: 'https:///x', bundleEndpointProfile: web }),
    /must be a URL with a host/],
  ['a partner with a fragment', partner({ trustDomain: 'b', bundleEndpointURL: 'https://b.test/#x', bundleEndpointProfile: web }),
    /without a fragment/],
  ['a partner of no trust domain', partner({ trustDomain: 'B c', bundleEndpointURL: 'https://b.test/', bundleEndpointProfile: web }),
    /trustDomain: .*must be a trust domain/],
  ['a profile that does not exist', partner({
    trustDomain: 'b', bundleEndpointURL: 'https://b.test/', bundleEndpointProfile: { type: 'https' }
  }), /Unsupported value: \\"https\\"/],
  ['https_spiffe without an ID', partner({
    trustDomain: 'b', bundleEndpointURL: 'https://b.test/', bundleEndpointProfile: { type: 'https_spiffe' }
  }), /https_spiffe needs endpointSPIFFEID/],
  ['https_spiffe with a URL for an ID', partner({
    trustDomain: 'b', bundleEndpointURL: 'https://b.test/', bundleEndpointProfile: { type: 'https_spiffe', endpointSPIFFEID: 'https://b/' }
  }), /must be a SPIFFE ID/],
  ['https_web with an ID', partner({
    trustDomain: 'b', bundleEndpointURL: 'https://b.test/', bundleEndpointProfile: { type: 'https_web', endpointSPIFFEID: 'spiffe://b/x' }
  }), /https_web has no endpointSPIFFEID/],
  ['a bundle in PEM', partner({
    trustDomain: 'b', bundleEndpointURL: 'https://b.test/', bundleEndpointProfile: web, trustDomainBundle: '-----BEGIN CERTIFICATE-----'
  }), /must be a SPIFFE bundle/]
]

export const plurals: Readonly<Record<string, string>> = {
  ClusterSPIFFEID: 'clusterspiffeids',
  ClusterStaticEntry: 'clusterstaticentries',
  ClusterFederatedTrustDomain: 'clusterfederatedtrustdomains'
}

function identity (spec: object): object { return resource('ClusterSPIFFEID', spec) }
function staticEntry (spec: object): object { return resource('ClusterStaticEntry', spec) }
function partner (spec: object): object { return resource('ClusterFederatedTrustDomain', spec) }

function resource (kind: string, spec: object): object {
  return { apiVersion: 'spire.spiffe.io/v1alpha1', kind, metadata: { generateName: 'example-' }, spec }
}

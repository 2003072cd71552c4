import type { LintCatalogue, LintFinding } from '../../spiffe/lint-finding.ts'

/** What is found in manifests. */
export const findingCatalogue = {
  // Manifests
  'unknown-field': { severity: 'error', next: 'correct its name: the API server drops it without a word' },
  'value-malformed': { severity: 'error', next: 'correct the value: the API server refuses it where deploy/crds are installed' },
  // Templates
  'template-malformed': { severity: 'error', next: 'correct the template: no entry can be rendered from it' },
  'template-leaves-trust-domain': { severity: 'error', next: 'begin it with spiffe://{{ .TrustDomain }}/' },
  'foreign-trust-domain': { severity: 'error', next: 'begin it with spiffe://{{ .TrustDomain }}/, or apply it where that trust domain is' },
  'unknown-template-value': {
    severity: 'error', next: 'use .TrustDomain, .ClusterName, .ClusterDomain, .PodMeta, .PodSpec, .NodeMeta or .NodeSpec'
  },
  'identity-chosen-by-pod': {
    severity: 'warning', next: 'add {{ .PodMeta.Namespace }}, or select namespaces in which only you make pods'
  },
  // Selectors
  'every-pod': { severity: 'warning', next: 'give it a namespaceSelector or a podSelector, or set fallback: true' },
  'every-namespace': { severity: 'warning', next: 'add a namespaceSelector: whoever may make a pod anywhere can give it these labels' },
  'all-but-some': { severity: 'warning', next: 'select by a label that namespaces get on purpose' },
  'system-namespace': { severity: 'info', next: 'exclude it by kubernetes.io/metadata.name, or by the controller\'s ignoreNamespaces' },
  'one-id-for-all': { severity: 'error', next: 'use {{ .PodMeta.Namespace }} and {{ .PodSpec.ServiceAccountName }} in the template' },
  'one-id-for-namespace': { severity: 'warning', next: 'use {{ .PodSpec.ServiceAccountName }} in the template, or add a podSelector' },
  'admin-for-many': { severity: 'error', next: 'select the pods that administer by namespace and by label' },
  'downstream-for-many': { severity: 'error', next: 'select the pods of the downstream server by namespace and by label' },
  // Several resources
  'duplicate-id': { severity: 'warning', next: 'merge the resources, or make their selectors exclude each other' },
  'duplicate-entry': { severity: 'error', next: 'remove one: the older resource counts, the others are masked' },
  'duplicate-trust-domain': { severity: 'error', next: 'remove one: the older resource counts, the others are ignored' },
  // Lifetimes
  'ttl-not-whole': { severity: 'warning', next: 'give whole seconds: fractions are cut off, and 0 is the server\'s default' },
  'ttl-short': { severity: 'warning', next: 'give a minute or more: every agent renews at half of it' },
  'ttl-long': { severity: 'warning', next: 'give less: until it is over, whoever has stolen the key is believed' },
  // Federation
  'no-federation-plan': {
    severity: 'warning', next: 'add a ClusterFederatedTrustDomain, or federation.federates_with to the server\'s configuration'
  },
  'federation-unused': { severity: 'info', next: 'name it in federatesWith of who calls there, or remove it' },
  'first-bundle-missing': { severity: 'warning', next: 'give trustDomainBundle, or `assay bundle set` once' },
  'no-bundle-endpoint': { severity: 'warning', next: 'set federation.bundle_endpoint, so that partners can fetch the bundle' },
  'trust-domain-placeholder': { severity: 'warning', next: 'take a name under a domain of your own before anything depends on it' },
  // How servers and agents run
  'sqlite-with-replicas': { severity: 'error', next: 'set server.datastore_url to PostgreSQL, or run one replica' },
  'agent-not-per-node': { severity: 'error', next: 'run the agent as a DaemonSet, and give pods its socket by the CSI driver or hostPath' },
  'not-all-compared': { severity: 'info', next: 'nothing: the other findings hold; lint fewer resources at once to have all compared' }
} as const satisfies LintCatalogue

export type FindingCode = keyof typeof findingCatalogue

/** About `Kind/name` or `Kind/namespace/name`. */
export type Finding = LintFinding<FindingCode>

import t from 'tap'
import { parseControllerConfig } from '../../src/controller/controller-config.ts'

function read (keys: Readonly<Record<string, unknown>>) {
  const text = JSON.stringify({ trustDomain: 'example.org', clusterName: 'demo', ...keys })
  return parseControllerConfig({ file: { name: 'controller.json', text } })
}

void t.test('defaults', async t => {
  const config = read({})
  t.match(config, {
    entryIdPrefix: 'assay-controller.demo..',
    fullEveryMs: 120_000,
    serverSocketPath: undefined,
    kubeConfigFile: undefined,
    lease: { namespace: 'default', name: 'assay-controller', durationMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2_000 },
    prometheus: undefined,
    healthChecks: undefined,
    logLevel: 'info',
    logFormat: 'json'
  })
  t.equal(config.scope.kinds.size, 3)
  t.strictSame(['kube-system', 'kube-public', 'spire-system', 'shop'].map(config.scope.ignores), [true, true, true, false])
})

void t.test('a configuration of spire-controller-manager', async t => {
  const config = parseControllerConfig({ file: { name: 'spire-controller-manager-config.yaml', text: `
apiVersion: spire.spiffe.io/v1alpha1
kind: ControllerManagerConfig
metadata: { name: c, namespace: spire-server }
metrics: { bindAddress: 0.0.0.0:8082 }
health: { healthProbeBindAddress: ":8083" }
leaderElection:
  leaderElect: true
  resourceName: abc.spiffe.io
  resourceNamespace: spire-server
validatingWebhookConfigurationName: spire-controller-manager-webhook
entryIDPrefix: demo
clusterName: demo
clusterDomain: cluster.local
trustDomain: example.org
className: blue
watchClassless: true
gcInterval: 10000000000
parentIDTemplate: "spiffe://{{ .TrustDomain }}/node/{{ .NodeMeta.Name }}"
ignoreNamespaces: [ "^kube-.*$", local-path-storage ]
reconcile: { clusterSPIFFEIDs: true }
spireServerSocketPath: /tmp/spire-server/private/api.sock
logLevel: debug
logEncoding: console
` } })
  t.match(config, {
    entryIdPrefix: 'demo.',
    fullEveryMs: 10_000,
    serverSocketPath: '/tmp/spire-server/private/api.sock',
    lease: { namespace: 'spire-server', name: 'abc.spiffe.io' },
    prometheus: { host: '0.0.0.0', port: 8082 },
    healthChecks: { host: '::', port: 8083, livePath: '/healthz', readyPath: '/readyz' },
    logLevel: 'debug',
    logFormat: 'text'
  })
  t.strictSame([...config.scope.kinds], ['ClusterSPIFFEID'])
  t.strictSame(['kube-x', 'my-kube-x', 'my-local-path-storage'].map(config.scope.ignores), [true, false, true])
})

void t.test('what is refused, and how', async t => {
  const table: Record<string, [Readonly<Record<string, unknown>>, RegExp]> = {
    'a trust domain': [{ trustDomain: 'Example' }, /trustDomain: trust domain/],
    'a cluster with a slash': [{ clusterName: 'a/b' }, /clusterName: must be 1 to 63/],
    'a cluster that is dots': [{ clusterName: '..' }, /clusterName/],
    'a parent that sees pods': [{ parentIDTemplate: '{{ .PodMeta.Name }}' }, /parentIDTemplate: at character 4: there is no field/],
    'a pattern': [{ ignoreNamespaces: ['('] }, /ignoreNamespaces\.0: is no regular expression/],
    'no prefix at all': [{ entryIDPrefix: '' }, /entryIDPrefix: must not be empty/],
    'a prefix with a slash': [{ entryIDPrefix: 'a/' }, /entryIDPrefix/],
    'a cleanup': [{ entryIDPrefixCleanup: '' }, /entryIDPrefixCleanup: is not supported; remove such entries/],
    'a class that makes the prefix another cluster\'s': [{ clusterName: 'prod', className: 'eu.x' }, /className: must have no dot/],
    'static manifests': [{ staticManifestPath: '/x' }, /staticManifestPath: is not supported/],
    'a Lease that ends too soon': [{ leaderElection: { leaseDuration: '5s' } }, /leaderElection: needs retryPeriod < renewDeadline </],
    'a bare number': [{ gcInterval: 10 }, /gcInterval: must be a duration/],
    'an unknown key': [{ clustername: 'x' }, /clustername: unknown key; did you mean clusterName\?/]
  }
  for (const [what, [keys, message]] of Object.entries(table)) t.throws(() => read(keys), { code: 'config_invalid', message }, what)
})

void t.test('no two classes share a prefix or a Lease', async t => {
  const [one, blue] = [read({}), read({ className: 'Blue_1' })]
  t.notOk(blue.entryIdPrefix.startsWith(one.entryIdPrefix) || one.entryIdPrefix.startsWith(blue.entryIdPrefix))
  t.equal(blue.lease.name, 'assay-controller-blue-1')
  t.equal(read({ clusterName: 'prod.eu', className: 'x' }).entryIdPrefix, 'assay-controller.prod.eu.x.')
  t.equal(read({ clusterName: 'prod', className: 'eu.x', entryIDPrefix: 'prod-eu-x' }).entryIdPrefix, 'prod-eu-x.', 'what is said is so')
})

import t from 'tap'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { deployToolMissing } from '../../scripts/deploy-tools.ts'
import { parseAgentConfig } from '../../src/agent/agent-config.ts'
import { parseServerConfig } from '../../src/server/server-config.ts'
import {
  buildKustomization, chartNotes, type KubeObject, objectsIn, overlays, renderChart, renderParts
} from '../../scripts/render-deploy.ts'
import { fileOf, find, nameOf, podTemplateOf } from './objects.ts'

t.setTimeout(280_000)
const skip = deployToolMissing('helm') || deployToolMissing('kustomize')
const kustomize = join(import.meta.dirname, '../../deploy/kustomize')
const byName = (objects: readonly KubeObject[]) => Object.fromEntries(objects.map(object => [nameOf(object), object]))

void t.test('Kustomize and Helm give the same objects', { skip }, async t => {
  const folders = globSync('{base,overlays/*}/kustomization.yaml', { cwd: kustomize }).map(file => dirname(file))
  t.strictSame(folders.toSorted(), Object.keys(overlays).toSorted(), 'every folder that can be applied is compared')
  for (const [folder, values] of Object.entries(overlays)) {
    const [built, rendered] = [await buildKustomization(folder), await renderChart(values)]
    t.ok(built.length > 8 && new Set(built.map(nameOf)).size === built.length, `${folder}: ${built.length} objects, none twice`)
    t.strictSame(byName(built), byName(rendered), folder)
  }
})

void t.test('the parts are what the chart gives now', { skip }, async t => {
  for (const [path, text] of await renderParts()) {
    t.strictSame(objectsIn(readFileSync(join(kustomize, path), 'utf8')), objectsIn(text), `${path}; else: node scripts/render-deploy.ts`)
  }
})

void t.test('mistakes are refused by name', { skip }, async t => {
  for (const [name, values] of Object.entries({
    sqlite_with_replicas: { server: { replicas: 3 } },
    agent_not_per_node: { agent: { kind: 'Sidecar' } },
    one_namespace: { namespaces: { server: 'assay', node: 'assay' } },
    agent_without_server: { server: { enabled: false } },
    own_trust_bundle_socket: { agent: { trustBundleSocket: '/run/assay/agent/api.sock' } },
    '/server/telemetry/Prometheus.*port': { server: { telemetry: { Prometheus: { port: 9000 } } } },
    '/agent/telemetry.*Statsdd': { agent: { telemetry: { Statsdd: [] } } },
    '/agent/trustBundleSocket': { agent: { trustBundleSocket: 'api.sock' } },
    data_beside_socket: { agent: { dataFolder: '/run/assay/agent/data' } },
    'programFolder must not be in agent.socketFolder': { mesh: { kubernetes: { plugin: { programFolder: '/run/assay/agent/cni' } } } },
    '/mesh/kubernetes/plugin/onFailure': { mesh: { kubernetes: { plugin: { onFailure: 'perhaps' } } } },
    'additional properties \'replica\' not allowed': { server: { replica: 2 } },
    '/server/datastore': { server: { datastore: 'mysql' } },
    '/agent/mode': { agent: { mode: 'sidecar' } },
    '/trustDomain': { trustDomain: 'Example.org' }
  })) {
    await t.rejects(renderChart(values), new RegExp(name), name)
  }
})

void t.test('what cannot be refused is warned of by name', { skip }, async t => {
  const warnings = async (values: Readonly<Record<string, unknown>>) =>
    [...(await chartNotes(values)).matchAll(/^WARNING (\w+):/gm)].map(([, name]) => name)
  t.strictSame(await warnings({}), ['default_trust_domain', 'no_federation_plan'])
  const federation = { federates_with: { 'partner.test': {} } }
  const planned = { trustDomain: 'corp.internal', server: { config: { federation } } }
  t.strictSame(await warnings(planned), [], 'a trust domain of one\'s own, and a partner')
  t.strictSame(await warnings({ ...planned, agent: { kubelet: { skipVerification: true } } }), ['kubelet_unverified'])
  t.strictSame(await warnings({ ...planned, agent: { mode: 'mesh' }, mesh: { kubernetes: { plugin: { onFailure: 'pass' } } } }), [
    'pods_may_start_in_the_clear'
  ])
})

void t.test('values are laid over the configurations', { skip }, async t => {
  const objects = await renderChart({
    trustDomain: 'prod.example.org', cluster: 'east',
    server: {
      config: { ca_ttl: '48h' },
      plugins: {
        KeyManager: { aws_kms: { plugin_data: { region: 'eu-west-1' } } },
        NodeAttestor: { k8s_psat: { plugin_data: { clusters: { west: { service_account_allow_list: ['x:y'] } } } } }
      }
    },
    agent: { config: { log_level: 'DEBUG' }, plugins: { WorkloadAttestor: { unix: {} } }, seesExecutables: true }
  })
  const config = (map: string, key: string) => objectsIn(fileOf(objects, map, key))[0] as unknown as Record<string, Record<string, unknown>>
  const server = config('assay-server', 'server.yaml')
  t.match(server, { server: { trust_domain: 'prod.example.org', ca_ttl: '48h' } })
  t.strictSame(Object.keys(server['plugins']?.['KeyManager'] as object), ['aws_kms'], 'another key manager takes the usual one\'s place')
  t.match(server, { plugins: { NodeAttestor: { k8s_psat: { plugin_data: { clusters: { east: {}, west: {} } } } } } })
  t.match(config('assay-agent', 'agent.yaml'), { agent: { log_level: 'DEBUG' }, plugins: { WorkloadAttestor: { unix: {}, k8s: {} } } })
  const [agent] = podTemplateOf(find(objects, 'DaemonSet', 'assay-agent'))?.spec.containers ?? []
  t.strictSame(agent?.securityContext.capabilities?.add, ['SYS_PTRACE'])
  const before = podTemplateOf(find(await renderChart({}), 'StatefulSet', 'assay-server'))?.metadata.annotations
  t.not(podTemplateOf(find(objects, 'StatefulSet', 'assay-server'))?.metadata.annotations?.['assay.io/configuration'],
    before?.['assay.io/configuration'], 'a new configuration makes new pods')
})

void t.test('values of their own for what is told, limited and believed', { skip }, async t => {
  const telemetry = {
    Statsd: [{ address: 'statsd.monitoring:8125' }], DogStatsd: [{ address: 'datadog.monitoring' }], InMem: {}, MetricPrefix: 'corp',
    EnableTrustDomainLabel: true, EnableHostnameLabel: false, BlockedPrefixes: ['corp.rpc'], AllowedLabels: ['method'],
    Prometheus: { tls: { use_spire_svid: true, authorized_spiffe_ids: ['spiffe://example.org/prometheus'] } }
  }
  const receiver = { to: [{ namespaceSelector: {} }], ports: [{ protocol: 'UDP', port: 8125 }] }
  const objects = await renderChart({
    server: { telemetry, requirePqKem: true },
    agent: {
      telemetry, requirePqKem: true, rateLimits: { fetch_x509_svid: 5 }, logSelectors: ['k8s:ns', 'k8s:sa'],
      trustBundleSocket: '/run/spire/agent-sockets/spire-agent.sock'
    },
    networkPolicy: { serverTo: [receiver], agentTo: [receiver] },
    podMonitor: { enabled: true, tlsConfig: { insecureSkipVerify: true } }
  })
  const text = (map: string, name: string) => ({ file: { name, text: fileOf(objects, map, name) } })
  const told = {
    prometheus: { host: '0.0.0.0', port: 9988, tls: { shown: 'svid', readers: { ids: new Set(['spiffe://example.org/prometheus']) } } },
    telemetry: {
      metricPrefix: 'corp', hostLabel: false, trustDomainLabel: true, inMem: true,
      statsd: [{ host: 'statsd.monitoring', port: 8125 }], dogStatsd: [{ host: 'datadog.monitoring', port: 8125 }],
      filters: { blockedPrefixes: ['corp.rpc'], allowedLabels: ['method'] }
    },
    requirePqKem: true
  }
  t.match(parseServerConfig(text('assay-server', 'server.yaml')), told, 'the server takes it')
  t.match(parseAgentConfig(text('assay-agent', 'agent.yaml')), {
    ...told, rateLimits: [{ perSecond: 5 }], logSelectors: ['k8s:ns', 'k8s:sa'],
    trustBundlePath: undefined, trustBundleWorkloadApi: '/run/spire/agent-sockets/spire-agent.sock'
  }, 'the agent takes it')
  const { volumes = [], containers: [agent] = [] } = podTemplateOf(find(objects, 'DaemonSet', 'assay-agent'))?.spec ?? {}
  t.match(volumes.find(({ name }) => name === 'other-agent'), { hostPath: { path: '/run/spire/agent-sockets' } })
  t.match(agent?.volumeMounts.find(({ name }) => name === 'other-agent'), { mountPath: '/run/spire/agent-sockets', readOnly: true })
  t.notOk([...volumes, ...agent?.volumeMounts ?? []].some(({ name }) => name === 'bundle'), 'it does not wait for a ConfigMap')
  for (const part of ['server', 'agent']) {
    const { spec } = find(objects, 'PodMonitor', `assay-${part}`) as { spec?: unknown }
    t.match(spec, { podMetricsEndpoints: [{ scheme: 'https', tlsConfig: { insecureSkipVerify: true } }] }, part)
    const policy = find(objects, 'NetworkPolicy', `assay-${part}`) as { spec?: { egress?: unknown[] } }
    t.strictSame(policy.spec?.egress?.at(-1), receiver, `${part}: the way to the receiver is open`)
  }
})

void t.test('a mesh without pods leaves the cluster\'s network alone', { skip }, async t => {
  const objects = await renderChart({ agent: { mode: 'mesh' }, mesh: { kubernetes: { enabled: false } } })
  const { containers } = podTemplateOf(find(objects, 'DaemonSet', 'assay-agent'))?.spec ?? { containers: [] }
  t.strictSame(containers.map(({ name }) => name), ['agent', 'envoy'])
  for (const { securityContext } of containers) t.strictSame(securityContext.capabilities?.add, ['NET_ADMIN', 'SYS_ADMIN'])
  t.match(objectsIn(fileOf(objects, 'assay-agent', 'agent.yaml'))[0], { mesh: { netns_dir: '/run/netns', kubernetes: undefined } })
  t.notOk(JSON.stringify(objects).includes('keep-plugin'))
})

void t.test('a drain of the node comes to its end', { skip }, async t => {
  const budgets = async (replicas: number, minAvailable: number) => {
    const objects = await renderChart({ server: { datastore: 'postgresql', replicas, minAvailable } })
    return objects.filter(({ kind }) => kind === 'PodDisruptionBudget')
  }
  t.match(await budgets(3, 1), [{ spec: { minAvailable: 1 } }])
  t.same([await budgets(1, 1), await budgets(2, 2)], [[], []], 'no budget from which nothing can be taken')
})

void t.test('what is off by default', { skip }, async t => {
  const names = async (values: object) => (await renderChart(values as Record<string, unknown>)).map(nameOf)
  const usual = await names({})
  const more = async (values: object) => (await names(values)).filter(name => !usual.includes(name))
  t.strictSame(await more({ podMonitor: { enabled: true } }), ['PodMonitor assay-node/assay-agent', 'PodMonitor assay/assay-server'])
  t.strictSame(await more({ csi: { enabled: true, drivers: ['csi.assay.io', 'csi.spiffe.io'] } }), [
    'ServiceAccount assay-node/assay-csi', 'DaemonSet assay-node/assay-csi', 'CSIDriver csi.assay.io', 'CSIDriver csi.spiffe.io'
  ])
  t.notOk((await names({ controller: { enabled: false } })).some(name => name.includes('assay-controller')))
  t.notOk((await names({ networkPolicy: { enabled: false } })).some(name => name.startsWith('NetworkPolicy')))
  t.notOk((await names({ namespaces: { create: false } })).some(name => name.startsWith('Namespace')))
  const elsewhere = { server: { enabled: false }, agent: { serverAddress: 'identity.example.org:8081' } }
  t.ok((await names(elsewhere)).every(name => !/server/.test(name)), 'agents of a cluster whose server is elsewhere')
})

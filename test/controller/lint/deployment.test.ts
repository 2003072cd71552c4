import t from 'tap'
import { codesOf, partner } from './manifests.ts'

const assay = (datastore: string) => `server:\n  trust_domain: corp.internal\n  data_dir: /data\n${datastore}`
const spire = (type: string) => 'server {\n  trust_domain = "corp.internal"\n  data_dir = "/data"\n}\nplugins {\n' +
  `  DataStore "sql" {\n    plugin_data {\n      database_type = "${type}"\n      connection_string = "x"\n    }\n  }\n}\n`

function configMap (data: Record<string, string>, namespace = 'assay'): object {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'server', namespace }, data }
}

const usual = [{ name: 'config', configMap: { name: 'server' } }]

function workload (
  kind: string, containers: readonly object[], { replicas, volumes = usual }: { replicas?: number, volumes?: readonly object[] } = {}
): object {
  const pod = { containers, volumes }
  const template = { spec: pod }
  const spec = kind === 'Pod' ? pod : kind === 'CronJob' ? { jobTemplate: { spec: { template } } } : { replicas, template }
  return { apiVersion: 'apps/v1', kind, metadata: { name: 'w', namespace: 'assay' }, spec }
}

const server = { name: 'server', image: 'registry.example:5000/assay:0.1.0', args: ['server', 'run', '-config', '/etc/server.yaml'] }
const agent = { name: 'agent', image: 'ghcr.io/spiffe/spire-agent:1.15.3@sha256:00' }
const app = { name: 'app', image: 'shop/web' }
const replicated = ['sqlite-with-replicas StatefulSet/assay/w']

void t.test('SQLite with several replicas', async t => {
  const three = (data: Record<string, string>, container: object = server) =>
    codesOf([configMap(data), workload('StatefulSet', [container], { replicas: 3 })])
  t.same(three({ 'server.yaml': assay('') }), replicated, 'which is what a server has that is told nothing')
  t.same(three({ 'server.yaml': assay('  datastore_url: sqlite:///data/x.sqlite3\n') }), replicated)
  t.same(three({ 'server.yaml': assay('  datastore_url: postgres://db/assay\n') }), [])
  t.same(three({ 'server.yaml': assay('  datastore_url: $DATABASE\n') }), [], 'a variable may say anything')
  t.same(three({ 'server.conf': spire('sqlite3') }), replicated, 'in SPIRE\'s form')
  t.same(three({ 'server.conf': spire('postgres') }), [])
  const store = { sql: { plugin_data: { database_type: 'sqlite3' } } }
  const json = { server: { trust_domain: 'corp.internal' }, plugins: { DataStore: [store] } }
  t.same(three({ 'server.conf': JSON.stringify(json) }), replicated, 'in SPIRE\'s JSON')
  t.same(three({ 'other.yaml': 'server:\n  port: 80\n' }), [], 'of something else')
  t.same(three({ 'server.yaml': ':\n{' }), [], 'what cannot be read is nobody\'s')
  for (const container of [
    { name: 's', image: 'x', command: ['/opt/spire/bin/spire-server', 'run'] }, { name: 's', image: 'spire-server' },
    { name: 's', image: 'x', command: ['assay', 'server', 'run'] }
  ]) t.same(three({ 'server.yaml': assay('') }, container), replicated, JSON.stringify(container))
  t.same(three({ 'server.yaml': assay('') }, app), [], 'what is no server')

  const config = configMap({ 'server.yaml': assay('') })
  t.same(codesOf([config, workload('StatefulSet', [server], { replicas: 1 })]), [], 'one is right')
  t.same(codesOf([config, workload('StatefulSet', [server])]), [])
  t.same(codesOf([config, workload('DaemonSet', [server])]), ['sqlite-with-replicas DaemonSet/assay/w'])
  const elsewhere = configMap({ 'server.yaml': assay('') }, 'other')
  t.same(codesOf([elsewhere, workload('StatefulSet', [server], { replicas: 3 })]), [], 'in another namespace')
  t.same(codesOf([config, workload('StatefulSet', [server], {
    replicas: 3, volumes: [{ name: 'c', projected: { sources: [{ configMap: { name: 'server' } }] } }]
  })]), replicated, 'by a projected volume')
  const scaler = (maxReplicas: number) => ({
    apiVersion: 'autoscaling/v2', kind: 'HorizontalPodAutoscaler', metadata: { name: 'h', namespace: 'assay' },
    spec: { scaleTargetRef: { kind: 'StatefulSet', name: 'w' }, maxReplicas }
  })
  t.same(codesOf([config, workload('StatefulSet', [server]), scaler(5)]), ['sqlite-with-replicas HorizontalPodAutoscaler/assay/h'])
  t.same(codesOf([config, workload('StatefulSet', [server]), scaler(1)]), [])
})

void t.test('an agent that is not once per node', async t => {
  t.same(codesOf([workload('DaemonSet', [agent])]), [])
  for (const kind of ['Deployment', 'StatefulSet', 'Job', 'CronJob', 'Pod']) {
    t.same(codesOf([workload(kind, [app, agent])]), [`agent-not-per-node ${kind}/assay/w`], `a sidecar in a ${kind}`)
  }
  const run = { name: 'a', image: 'assay', args: ['agent', 'run'] }
  t.same(codesOf([workload('Deployment', [run])]), ['agent-not-per-node Deployment/assay/w'])
  t.same(codesOf([workload('Deployment', [{ name: 'a', image: 'assay', args: ['agent', 'healthcheck'] }, app])]), [])
  const made = workload('Pod', [agent]) as { metadata: object }
  t.same(codesOf([{ ...made, metadata: { ...made.metadata, ownerReferences: [{ kind: 'DaemonSet' }] } }]), [], 'a pod of a DaemonSet')
})

void t.test('no federation plan', async t => {
  const named = (trustDomain: string) => codesOf([configMap({ 's.yaml': assay('').replace('corp.internal', trustDomain) })])
  for (const name of ['example.org', 'a.example.com', 'cluster.local', 'test']) {
    t.same(named(name), ['trust-domain-placeholder ConfigMap/assay/server'], name)
  }
  for (const name of ['prod.acme.io', 'myexample.org']) t.same(named(name), [], name)
  t.same(codesOf([configMap({ 's.yaml': assay('') }), partner('p.example')]), ['no-bundle-endpoint ConfigMap/assay/server'])
  const endpoint = '  federation:\n    bundle_endpoint:\n      port: 8443\n'
  t.same(codesOf([configMap({ 's.yaml': assay(endpoint) }), partner('p.example')]), [])
  const caller = (federatesWith: string) => ({
    apiVersion: 'spire.spiffe.io/v1alpha1', kind: 'ClusterStaticEntry', metadata: { name: 'vm' },
    spec: { spiffeID: 'spiffe://td/vm', parentID: 'spiffe://td/n', selectors: ['a:b'], federatesWith: [federatesWith] }
  })
  const partners = '  federation:\n    federates_with:\n      q.example:\n        bundle_endpoint_url: https://q.example\n'
  const declared = configMap({ 's.yaml': assay(partners) })
  t.same(codesOf([declared, caller('q.example')]), [], 'said in the configuration of the server')
  t.same(codesOf([declared, caller('r.example')]), ['no-federation-plan ClusterStaticEntry/vm'])
})

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { deployToolMissing } from '../../scripts/deploy-tools.ts'
import { buildKustomization, type KubeObject, objectsIn, overlays, renderChart } from '../../scripts/render-deploy.ts'
import { eventually } from '../fakes/eventually.ts'
import { RunningProcess, startAgent, startServer } from '../fakes/processes.ts'
import { Administrator } from '../interop/administrator.ts'
import { kubeApiserverMissing } from '../kubernetes/build-kube-apiserver.ts'
import { RealCluster } from '../kubernetes/real-cluster.ts'
import { fileOf, find, nameOf, pathOf, podOf } from './objects.ts'

const patienceMs = 300_000
const skip = kubeApiserverMissing() || deployToolMissing('helm') || deployToolMissing('kustomize')
const pods = '/api/v1/namespaces'

/** What docs/kubernetes.md has operators apply after the overlay. */
const page = readFileSync(join(import.meta.dirname, '../../docs/kubernetes.md'), 'utf8')
const documented = [...page.matchAll(/```yaml\n(apiVersion: [^`]*)```/g)]
  .flatMap(([, yaml = '']) => objectsIn(yaml)).filter(({ kind }) => !kind.startsWith('ClusterRole'))

/** With every field checked. `dry`: as far as storing it, and no further. */
async function apply (cluster: RealCluster, object: KubeObject, dry = false): Promise<Readonly<Record<string, unknown>>> {
  return await cluster.ask('PATCH', `${pathOf(object)}?fieldManager=test&fieldValidation=Strict${dry ? '&dryRun=All' : ''}`, object)
}

async function applyAll (cluster: RealCluster, objects: readonly KubeObject[]): Promise<void> {
  for (const object of objects.filter(({ kind }) => kind === 'Namespace')) await apply(cluster, object)
  for (const dry of [true, false]) for (const object of objects) await apply(cluster, object, dry)
}

/** As a controller of the cluster makes it. */
async function makePod (cluster: RealCluster, pod: KubeObject, how = ''): Promise<Readonly<Record<string, unknown>>> {
  const { namespace, name } = pod.metadata
  return await cluster.ask('POST', `${pods}/${namespace}/pods${how}`, {
    ...pod, metadata: { ...pod.metadata, name }, spec: { ...pod['spec'] as object, nodeName: 'worker-1' }
  })
}

async function tokenOf (cluster: RealCluster, namespace: string, account: string, spec: object): Promise<string> {
  const path = `${pods}/${namespace}/serviceaccounts/${account}/token`
  const { status } = await cluster.ask('POST', path, { spec: { expirationSeconds: 600, ...spec } })
  return (status as { token: string }).token
}

await t.test('deploy/ on a real API server', { skip, timeout: 1_700_000 }, async t => {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const folder = await mkdtemp(join(tmpdir(), 'assay-deploy-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const cluster = scope.use(await RealCluster.start())
  const nodeUid = await cluster.addNode('worker-1', {})
  const full = await renderChart({ agent: { mode: 'mesh' }, csi: { enabled: true } })

  await t.test('each overlay, and all that the chart can make, is taken with every field known', async t => {
    for (const folder of Object.keys(overlays)) {
      const objects = await buildKustomization(folder)
      await applyAll(cluster, objects)
      t.pass(`${folder}: ${objects.length} objects`)
    }
    await applyAll(cluster, full)
    const wrong = { ...find(full, 'Service', 'assay-server'), spec: { prots: [] } }
    await t.rejects(apply(cluster, wrong, true), /unknown|not declared/, 'the check checks')
  })

  await t.test('its pods are admitted by the level of their namespace, and by no lower one than they must', async t => {
    const workloads = new Map<string, KubeObject>()
    for (const folder of ['overlays/sds-only', 'overlays/postgresql']) {
      for (const object of await buildKustomization(folder)) {
        const pod = podOf(object)
        if (pod !== undefined) workloads.set(`${folder}: ${nameOf(object)}`, pod)
      }
    }
    for (const object of full) {
      const pod = podOf(object)
      if (pod !== undefined) workloads.set(`full: ${nameOf(object)}`, pod)
    }
    const { metadata } = await cluster.ask('GET', '/api/v1/namespaces/assay') as unknown as KubeObject
    t.equal(metadata.labels?.['pod-security.kubernetes.io/enforce'], 'restricted')
    for (const [name, pod] of workloads) await t.resolves(makePod(cluster, pod, '?dryRun=All'), name)

    const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' }
    await apply(cluster, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'strict', labels } })
    for (const account of ['assay-server', 'assay-agent', 'assay-csi']) {
      await apply(cluster, { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: account, namespace: 'strict' } })
    }
    const refusal = async (name: string): Promise<string[]> => {
      const pod = workloads.get(name) as KubeObject
      return await makePod(cluster, { ...pod, metadata: { ...pod.metadata, namespace: 'strict' } }, '?dryRun=All')
        .then(() => [], (error: Error) => /violates PodSecurity \\?"restricted:latest\\?": (.*?)","reason"/.exec(error.message)?.[1]
          ?.split(/\), |(?<=\)), /).map(reason => reason.replace(/ \(.*$/s, '')) ?? [error.message])
    }
    t.strictSame(await refusal('overlays/sds-only: StatefulSet assay/assay-server'), [], 'the server is nobody\'s danger anywhere')
    t.strictSame(await refusal('overlays/postgresql: Deployment assay/assay-server'), [])
    t.strictSame(await refusal('overlays/sds-only: DaemonSet assay-node/assay-agent'), [
      'host namespaces', 'restricted volume types', 'runAsNonRoot != true', 'runAsUser=0'
    ], 'an agent without the mesh asks for the processes and two folders of its node, and for no right')
    t.ok((await refusal('full: DaemonSet assay-node/assay-agent')).includes('unrestricted capabilities'), 'one with the mesh for more')
  })

  await t.test('accounts may do what they need, and nothing else', async t => {
    const may = async (account: string, attributes: object) => {
      const groups = ['system:serviceaccounts', 'system:authenticated']
      const { status } = await cluster.ask('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
        spec: { user: `system:serviceaccount:${account}`, groups, resourceAttributes: attributes }
      })
      return (status as { allowed: boolean }).allowed
    }
    const [server, agent, csi] = ['assay:assay-server', 'assay-node:assay-agent', 'assay-node:assay-csi'] as const
    const bundle = { namespace: 'assay-node', resource: 'configmaps' }
    const rights = [
      [server, { verb: 'get', resource: 'nodes', name: 'worker-1' }, true],
      [server, { verb: 'create', group: 'authentication.k8s.io', resource: 'tokenreviews' }, true],
      [server, { verb: 'get', resource: 'pods', namespace: 'default' }, true],
      [server, { verb: 'patch', ...bundle, name: 'assay-bundle' }, true],
      [server, { verb: 'patch', ...bundle, name: 'assay-agent' }, false],
      [server, { verb: 'get', resource: 'secrets', namespace: 'assay' }, false],
      [server, { verb: 'create', resource: 'pods', namespace: 'default' }, false],
      // Of the controller, which runs in the server's pods.
      [server, { verb: 'watch', group: 'spire.spiffe.io', resource: 'clusterspiffeids' }, true],
      [server, { verb: 'patch', group: 'spire.spiffe.io', resource: 'clusterspiffeids', subresource: 'status' }, true],
      [server, { verb: 'update', group: 'spire.spiffe.io', resource: 'clusterspiffeids' }, false],
      [server, { verb: 'update', group: 'coordination.k8s.io', resource: 'leases', namespace: 'assay', name: 'assay-controller' }, true],
      [server, { verb: 'update', group: 'coordination.k8s.io', resource: 'leases', namespace: 'kube-system', name: 'x' }, false],
      [agent, { verb: 'get', resource: 'nodes', subresource: 'pods', name: 'worker-1' }, true],
      [agent, { verb: 'get', resource: 'nodes', subresource: 'proxy', name: 'worker-1' }, false],
      [agent, { verb: 'get', resource: 'pods', namespace: 'default' }, false],
      // With the mesh: labels of namespaces that it names, and whether its plugin is still wanted.
      [agent, { verb: 'get', resource: 'namespaces', name: 'default' }, true],
      [agent, { verb: 'list', resource: 'namespaces' }, false],
      [agent, { verb: 'get', group: 'apps', resource: 'daemonsets', namespace: 'assay-node', name: 'assay-agent' }, true],
      [agent, { verb: 'get', group: 'apps', resource: 'daemonsets', namespace: 'assay-node', name: 'assay-csi' }, false],
      [agent, { verb: 'delete', group: 'apps', resource: 'daemonsets', namespace: 'assay-node', name: 'assay-agent' }, false],
      [agent, { verb: 'get', resource: 'secrets', namespace: 'assay-node' }, false],
      [csi, { verb: 'get', resource: 'pods', namespace: 'default' }, false]
    ] as const
    // The API server learns of roles of namespaces, and of who has them, each by itself.
    for (const [account, attributes, allowed] of rights) {
      if (allowed) await eventually(`${account} may ${JSON.stringify(attributes)}`, () => may(account, attributes), patienceMs)
    }
    for (const [account, attributes, allowed] of rights) {
      t.equal(await may(account, attributes), allowed, `${account} ${allowed ? 'may' : 'may not'} ${JSON.stringify(attributes)}`)
    }
  })

  await t.test('server and agent, with the chart\'s configurations and their own accounts\' tokens', async t => {
    const objects = await renderChart({})
    await applyAll(cluster, objects)
    const agentPod = { ...podOf(find(objects, 'DaemonSet', 'assay-agent')) as KubeObject }
    const { metadata: { uid } } = await makePod(cluster, agentPod) as unknown as { metadata: { uid: string } }
    const config = (map: string, key: string) => objectsIn(fileOf(objects, map, key))[0] as unknown as {
      plugins: { NodeAttestor: { k8s_psat: { plugin_data: Record<string, unknown> } }, BundlePublisher?: object, KeyManager?: object }
    }
    const kubeconfig = join(folder, 'server.kubeconfig')
    const known = JSON.parse(readFileSync(cluster.kubeconfig, 'utf8')) as { users: object[] }
    const token = await tokenOf(cluster, 'assay', 'assay-server', {})
    writeFileSync(kubeconfig, JSON.stringify({ ...known, users: [{ name: 'u', user: { token } }] }))
    // In the pod the token is mounted; here a file names it.
    const { plugins } = config('assay-server', 'server.yaml')
    const within = (block: unknown, key: string) => {
      const { clusters } = block as { clusters: Record<string, object> }
      return Object.fromEntries(Object.entries(clusters).map(([name, cluster]) => [name, { ...cluster, [key]: kubeconfig }]))
    }
    const publisher = (plugins.BundlePublisher as { k8s_configmap: { plugin_data: object } }).k8s_configmap.plugin_data
    const server = scope.use(await startServer({ blocks: { plugins: {
      NodeAttestor: { k8s_psat: { plugin_data: { clusters: within(plugins.NodeAttestor.k8s_psat.plugin_data, 'kube_config_file') } } },
      BundlePublisher: { k8s_configmap: { plugin_data: { clusters: within(publisher, 'kubeconfig_path') } } }
    } } }))
    const bundle = async () => (await cluster.ask('GET', '/api/v1/namespaces/assay-node/configmaps/assay-bundle'))['data'] as
      Record<string, string> | undefined
    const waiting = () => `the bundle is there: ${server.process.log.slice(-2_000)}`
    await eventually(waiting, async () => (await bundle()) !== undefined, patienceMs)
    t.match((await bundle())?.['bundle.pem'], /^-----BEGIN CERTIFICATE-----/)
    await applyAll(cluster, objects)
    t.match((await bundle())?.['bundle.pem'], /^-----BEGIN CERTIFICATE-----/, 'where the next `apply` leaves it')

    mkdirSync(join(folder, 'agent'))
    const tokenPath = join(folder, 'agent/token')
    writeFileSync(tokenPath, await tokenOf(cluster, 'assay-node', 'assay-agent', {
      audiences: ['spire-server'], boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: agentPod.metadata.name, uid }
    }))
    const { plugins: { NodeAttestor: { k8s_psat: { plugin_data: data } } } } = config('assay-agent', 'agent.yaml')
    const agent = scope.use(await startAgent({
      server, plugins: { NodeAttestor: { k8s_psat: { plugin_data: { ...data, token_path: tokenPath } } } }
    }))
    t.equal(agent.id, `spiffe://example.org/spire/agent/k8s_psat/kubernetes/${nodeUid}`)

    const file = join(folder, 'controller.json')
    writeFileSync(file, JSON.stringify({
      ...config('assay-controller', 'controller.yaml'), kubeConfigFile: kubeconfig, spireServerSocketPath: server.adminSocket,
      metrics: {}, health: {}
    }))
    const controller = new RunningProcess(['controller', 'run', '-config', file])
    scope.defer(() => controller.kill9())
    await controller.logged('controller leads')
    for (const object of documented) await apply(cluster, object)
    await makePod(cluster, podOf(find(documented, 'Deployment', 'web')) as KubeObject)
    const admin = scope.use(new Administrator(server))
    await eventually(() => `the pod has an entry: ${controller.log.slice(-2_000)}`, async () => {
      const { entries } = await admin.entries.listEntries({})
      return entries.some(({ spiffeId, parentId }) => spiffeId?.path === '/shop/web' && agent.id.endsWith(parentId?.path ?? '-'))
    }, patienceMs)
  })
})

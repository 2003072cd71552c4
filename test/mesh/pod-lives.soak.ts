import t from 'tap'
import { until } from '../fakes/envoy.ts'
import { PodWorkload } from '../fakes/pod-workload.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { KubeNodes, type KubePod, type NodeName } from './kube-nodes.ts'

const skip = noNamespaces()
const patienceMs = 120_000
const label = 'assay.io/mesh'
const own = 'URI=spiffe://example.org/'

async function open (): Promise<KubeNodes> {
  const kube = await KubeNodes.open()
  kube.api.namespaces.set('shop', { [label]: 'enabled' })
  return kube
}

/** Packets that left a pod in the clear. */
const inTheClear = (kube: KubeNodes, ...pods: KubePod[]) => pods.map(({ link }) => kube.wire.read().get(link))

/** The web behind a service that only `/job` may call. */
async function startWeb (kube: KubeNodes, node: NodeName): Promise<KubePod> {
  const web = kube.createPod({ node, name: 'web', address: '10.77.0.3' })
  await kube.addUntilServed(web)
  await PodWorkload.start(kube.nodes.network, web.path)
  await kube.nodes.service('web', '10.99.0.1', ['/web'], ['/job'])
  return web
}

const reached = async (caller: PodWorkload) => (await caller.http('10.99.0.1', 80)).body?.includes(`${own}job`) === true

await t.test('an init container, and containers that restart, while agent and Envoy do', { skip, timeout: 900_000 }, async t => {
  await using kube = await open()
  const [one, two] = await Promise.all([kube.startNode('one'), kube.startNode('two')])
  await Promise.all([kube.nodes.register(one, '/job', 'k8s:pod-name:job'), kube.nodes.register(two, '/web', 'k8s:pod-name:web')])
  const web = await startWeb(kube, 'two')
  const job = kube.createPod({ node: 'one', name: 'job', address: '10.77.0.2' })
  await kube.addUntilServed(job)

  // The first program in the pod, before its containers: an entry by what the pod is gives it an identity already.
  const init = await PodWorkload.start(kube.nodes.network, job.path)
  await until('the init container to reach the service', () => reached(init), patienceMs)
  await one.kill9()
  t.ok(await reached(init), 'while there is no agent')
  const again = await kube.startNode('one', { folder: one.folder })
  t.ok(await reached(init), 'and when the next one has come')
  await init.kill()

  const first = await PodWorkload.start(kube.nodes.network, job.path)
  await until('the container after it to reach the service', () => reached(first), patienceMs)
  const { envoy } = await kube.nodes.status('one')
  process.kill(envoy?.pid ?? 0, 'SIGKILL')
  await first.kill()
  const next = await PodWorkload.start(kube.nodes.network, job.path)
  for (let call = 0; call < 20; call++) {
    const { status, body } = await next.http('10.99.0.1', 80)
    t.ok(status !== 200 || body?.includes(`${own}job`), 'while Envoy is away a call fails or is protected')
  }
  await until('another Envoy to serve the restarted container', () => reached(next), patienceMs)
  t.strictSame(inTheClear(kube, job, web), [0, 0], 'unprotected packets: 0')
  t.notMatch(again.log(), /ran outside of it until now/, 'nor does the agent think so')
  await next.kill()
})

await t.test('a pod that no entry gives an identity, where that is refused', { skip, timeout: 900_000 }, async t => {
  await using kube = await open()
  const one = await kube.startNode('one', { kubernetes: { add_timeout: '3s' } })
  await kube.nodes.register(one, '/web', 'k8s:pod-name:web')
  const web = await startWeb(kube, 'one')
  const job = kube.createPod({ node: 'one', name: 'job', address: '10.77.0.2' })
  t.match(await kube.cni('ADD', job), { code: 1, answer: { msg: /identity/ } }, 'it does not start, by name')
  // A runtime that starts it all the same.
  const caller = await PodWorkload.start(kube.nodes.network, job.path)
  for (const [address, port] of [['10.77.0.3', 8080], ['10.99.0.1', 80]] as const) {
    t.not((await caller.http(address, port)).status, 200, `it does not reach ${address}:${port}`)
  }
  t.strictSame(inTheClear(kube, job, web), [0, 0], 'and nothing of it leaves')
  await kube.nodes.register(one, '/job', 'k8s:pod-name:job')
  t.match(await kube.cni('ADD', job).then(async answer => answer.code === 0 ? answer : await kube.cni('ADD', job)), { code: 0 })
  await until('it to reach the service with an identity', () => reached(caller), patienceMs)
  t.strictSame(inTheClear(kube, job, web), [0, 0])
  await caller.kill()
})

await t.test('and where it may pass', { skip, timeout: 900_000 }, async t => {
  await using kube = await open()
  const one = await kube.startNode('one', { kubernetes: { add_timeout: '3s', without_identity: 'pass' } })
  const job = kube.createPod({ node: 'one', name: 'job', address: '10.77.0.2' })
  t.match(await kube.cni('ADD', job), { code: 0 }, 'it starts')
  t.match(one.log(), /a pod starts without an identity, outside the mesh/, 'never silently')
  const caller = await PodWorkload.start(kube.nodes.network, job.path)
  const outside = kube.createPod({ node: 'two', name: 'outside', address: '10.77.0.9' })
  await PodWorkload.start(kube.nodes.network, outside.path)
  t.match(await caller.http('10.77.0.9', 8080), { status: 200 }, 'it calls in the clear')
  t.ok((inTheClear(kube, job)[0] ?? 0) > 0, 'as the counter sees')

  await kube.nodes.register(one, '/web', 'k8s:pod-name:web')
  const web = await startWeb(kube, 'one')
  const id = await kube.nodes.register(one, '/job', 'k8s:pod-name:job')
  await until('it to be of the mesh once it has an identity', () => reached(caller), patienceMs)
  const before = inTheClear(kube, job, web)
  t.ok(await reached(caller))
  await kube.nodes.unregister(id)
  await until('its identity to be gone', async () => !await reached(caller), patienceMs)
  t.not((await caller.http('10.77.0.9', 8080)).status, 200, 'what had an identity once does not speak in the clear without it')
  t.strictSame(inTheClear(kube, job, web), before, 'unprotected packets since: 0')
  await caller.kill()
})

import { execFile, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { KubeObject } from '../../scripts/render-deploy.ts'
import { groupsMissing } from '../fakes/container-group.ts'
import { findEnvoy } from '../fakes/envoy.ts'
import { eventually } from '../fakes/eventually.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { WireCounter } from '../fakes/wire-counter.ts'
import { kubeApiserverMissing } from '../kubernetes/build-kube-apiserver.ts'
import { RealCluster } from '../kubernetes/real-cluster.ts'
import { podOf } from './objects.ts'
import { makeImages } from './rendered-images.ts'
import { RenderedNode, type RunningPod } from './rendered-node.ts'

const run = promisify(execFile)
const project = join(import.meta.dirname, '../..')
const patienceMs = 300_000

/** What docs/kubernetes.md shows under this title: the manifest, and commands with what they print. */
const page = readFileSync(join(project, 'docs/kubernetes.md'), 'utf8')
const [, section = ''] = /## Two pods in the mesh, in three commands\n(.*?)\n## /s.exec(page) ?? []
const [, manifest = ''] = /```yaml\n(.*?)```/s.exec(section) ?? []
const commands = [...section.matchAll(/```\n\$ ([^\n]*)\n(.*?)```/gs)].map(([, command = '', output = '']) => ({ command, output }))

function missing (): string | false {
  if (findEnvoy() === undefined) return 'there is no envoy; run `npm run setup`'
  for (const name of ['kubectl', 'nft', 'nsenter', 'setpriv', 'ldd']) {
    if (spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0) return `there is no ${name}`
  }
  return noNamespaces() || groupsMissing() || kubeApiserverMissing()
}

/** A command of the page's, as a shell reads its words. */
function wordsOf (command: string): string[] {
  return [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? '')
}

await t.test('from an empty cluster to two pods that speak mTLS', { skip: missing(), timeout: 1_700_000 }, async t => {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const folder = await mkdtemp(join(tmpdir(), 'assay-mesh-pods-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const cluster = scope.use(await RealCluster.start())
  await cluster.addNode('worker-1', {})
  mkdirSync(join(folder, 'images'))
  const images = await makeImages(join(folder, 'images'))
  const node = scope.use(await RenderedNode.open({ cluster, name: 'worker-1', images, folder }))
  writeFileSync(join(folder, 'shop.yaml'), manifest)

  const kubectl = async (command: string): Promise<string> => {
    const [program = '', ...words] = wordsOf(command).map(word => word === 'shop.yaml' ? join(folder, word) : word)
    const { NODE_OPTIONS: _, ...env } = process.env
    const around = { ...env, KUBECONFIG: cluster.adminKubeconfig, HOME: folder }
    return (await run(program, words, { cwd: project, env: around, maxBuffer: 1 << 24 })).stdout
  }
  const get = async (path: string) => await cluster.ask('GET', path) as unknown as KubeObject
  /** As the cluster's controllers make it of what was applied, and its scheduler places it. */
  const makePod = async (workload: KubeObject): Promise<KubeObject> => {
    const pod = podOf(workload) as KubeObject
    return await cluster.ask('POST', `/api/v1/namespaces/${pod.metadata.namespace}/pods`, {
      ...pod, spec: { ...pod['spec'] as object, nodeName: 'worker-1' }
    }) as unknown as KubeObject
  }
  const shown = (index: number) => commands[index]?.output ?? ''

  t.equal(commands.length, 4, 'three commands, and a call')
  t.equal(await kubectl(commands[0]?.command ?? ''), shown(0), '1: the server, and what each node runs')
  const server = await node.run(await makePod(await get('/apis/apps/v1/namespaces/assay/statefulsets/assay-server')))
  node.name('assay-server.assay.svc', server.address)
  const agent = await node.run(await makePod(await get('/apis/apps/v1/namespaces/assay-node/daemonsets/assay-agent')))
  const logOf = (pod: RunningPod, container: string) => pod.containers.get(container)?.log ?? ''
  const said = () => ['agent', 'envoy', 'cni'].map(name => `${name}:\n${logOf(agent, name).slice(-5_000)}`).join('\n') +
    `\ncontroller:\n${logOf(server, 'controller').slice(-3_000)}`
  const networkFile = node.path('/etc/cni/net.d/10-pods.conflist')
  const types = () => {
    const { plugins } = JSON.parse(readFileSync(networkFile, 'utf8')) as { plugins: Array<{ type: string }> }
    return plugins.map(({ type }) => type)
  }
  await eventually(() => `the plugin is in the network: ${said()}`, () => types().includes('assay-cni'), patienceMs)
  t.strictSame(types(), ['ptp', 'assay-cni'], 'the plugin is the last of the cluster\'s network')

  t.equal(await kubectl(commands[1]?.command ?? ''), shown(1), '2: the pods')
  const wire = new WireCounter(node.network)
  const pods = new Map<string, RunningPod>()
  for (const name of ['web', 'front']) {
    // No scheduler is here: a pod that is bound has a node.
    await cluster.ask('POST', `/api/v1/namespaces/shop/pods/${name}/binding`, {
      apiVersion: 'v1', kind: 'Binding', metadata: { name, namespace: 'shop' }, target: { apiVersion: 'v1', kind: 'Node', name: 'worker-1' }
    })
    const pod = await get(`/api/v1/namespaces/shop/pods/${name}`)
    const running = await node.run(pod).catch((error: Error) => { throw new Error(`${error.message}\n${said()}`) })
    wire.follow(`cni-${(pod.metadata as unknown as { uid: string }).uid}`)
    pods.set(name, running)
    t.match(running.plugins, [/^assay-cni: .*"ips"/], `${name} started once the plugin said that it is redirected`)
  }

  const exec = async (command: string, pod: RunningPod, container: string) => {
    const words = wordsOf(command.replace(/^.*? -- /, '')).map(word => word === 'assay' ? '/usr/local/bin/assay' : word)
    return await pod.containers.get(container)?.exec(...words) ?? ''
  }
  const created = await exec(commands[2]?.command ?? '', server, 'server')
  const same = (text: string) => text.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'ID').replaceAll(/after \S+/g, 'after a while').trim()
  t.equal(same(created), same(shown(2)), '3: what callers name')
  t.comment(created)

  const front = pods.get('front') as RunningPod
  let answer = ''
  await eventually(() => `front is let in by web: ${answer}\n${said()}`, async () => {
    answer = await exec(commands[3]?.command ?? '', front, 'front').catch((error: Error) => error.message)
    return answer.includes('URI=')
  }, patienceMs)
  t.equal(answer, shown(3), 'and the call: the peer is known by its SVID')
  const clear = [...wire.read().values()].reduce((sum, packets) => sum + packets, 0)
  t.equal(clear, 0, 'no data left either pod but in tunnels')
  const direct = `node -e "fetch('http://${pods.get('web')?.address}:8080/').then(answer => answer.text()).then(console.log)"`
  await eventually(() => `by its own address, too: ${answer}\n${said()}`, async () => {
    answer = await exec(` -- ${direct}`, front, 'front').catch((error: Error) => error.message)
    return /URI=spiffe:\/\/example\.org\/shop\/front/.test(answer)
  }, patienceMs)

  await t.test('who uninstalls the mesh finds the network as it was', async t => {
    const plugin = async () => {
      await agent.containers.get('cni')?.stop()
      return logOf(agent, 'cni')
    }
    await cluster.ask('DELETE', '/apis/apps/v1/namespaces/assay-node/daemonsets/assay-agent')
    t.match(await plugin(), /the plugin has been taken out/)
    t.strictSame(types(), ['ptp'], 'the network is what it was')
    t.notOk(existsSync(node.path('/opt/cni/bin/assay-cni')))
    t.strictSame(readdirSync(node.path('/var/lib/assay/cni')), [])
  })
})

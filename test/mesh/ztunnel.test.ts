import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { MeshService } from '../../src/mesh/mesh-state.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { until } from '../fakes/envoy.ts'
import { startIstioCa } from '../fakes/istio-ca.ts'
import { PodWorkload, type Reply } from '../fakes/pod-workload.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { MeshRig } from './mesh-rig.ts'

/** Istio's ztunnel, built by whoever wants this proof, e.g. by `cargo build --no-default-features --features tls-ring`. */
const ztunnel = process.env['ZTUNNEL_BIN']
const runs = ztunnel !== undefined && spawnSync(ztunnel, ['version']).status === 0
const skip = runs ? noNamespaces() : ztunnel === undefined ? 'needs ZTUNNEL_BIN, the path of Istio\'s ztunnel' : `${ztunnel} does not run`

const addressOf = { a: '10.77.0.2', z: '10.77.0.3', c: '10.77.0.4' } as const
const caPort = 15_012
const id = (name: string) => parseSpiffeId(`spiffe://lab.test/ns/shop/sa/${name}`)
const told = ({ body }: Reply) => JSON.parse(body ?? '{}') as { readonly name?: string, readonly xfcc?: string | null }

/** What ztunnel is told of the mesh: it knows workloads by Istio's names. */
function workload (name: keyof typeof addressOf) {
  return {
    uid: `lab//Pod/shop/${name}`, name, namespace: 'shop', serviceAccount: name, trustDomain: 'lab.test', workloadIps: [addressOf[name]],
    protocol: 'HBONE', node: name, network: '', services: {}
  }
}

/** ztunnel for one pod, inside it, as its program's own proxy. */
async function startZtunnel (rig: MeshRig, pod: 'z'): Promise<() => string> {
  const root = join(rig.folder, 'root.pem')
  writeFileSync(root, encodePem('CERTIFICATE', rig.domain.root))
  // Its own calls of the CA are not marked.
  rig.network.inPod(pod, 'iptables', '-w', '-t', 'nat', '-I', 'OUTPUT', '-p', 'tcp', '--dport', String(caPort), '-j', 'RETURN')
  const config = join(rig.folder, 'ztunnel.json')
  writeFileSync(config, JSON.stringify({ workloads: (['a', 'z', 'c'] as const).map(workload) }))
  const environment = {
    PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: `shop/${pod}/${pod}`, NODE_NAME: pod, LOCAL_XDS_PATH: config, XDS_ADDRESS: '',
    CA_ADDRESS: `https://10.77.0.1:${caPort}`, CA_ROOT_CA: root, ENABLE_ORIG_SRC: 'false', ISTIO_META_DNS_CAPTURE: 'false',
    PACKET_MARK: '1337', ZTUNNEL_WORKER_THREADS: '1', RUST_LOG: 'info'
  }
  const child = rig.network.spawnIn(pod, 'env', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    'sh', '-c', 'exec "$0" 2>&1', ztunnel as string)
  let log = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => { log += text })
  return () => log
}

void t.test('HBONE with ztunnel, both ways', { skip, timeout: 120_000 }, async t => {
  await using rig = await MeshRig.open()
  await using _ = await startIstioCa({ domain: rig.domain, netns: rig.network.node, address: '10.77.0.1', port: caPort })
  const [a, c] = await Promise.all([rig.pod('a', addressOf.a, '/ns/shop/sa/a'), rig.pod('c', addressOf.c, '/ns/shop/sa/c')])
  rig.network.addPod('z', addressOf.z)
  const z = await PodWorkload.start(rig.network, 'z')
  await rig.startEnvoy()
  await rig.serving('a', 'c')
  const web: MeshService = {
    name: 'web', spiffeIds: [id('a')], callers: [id('z')], ports: [{ port: 80, targetPort: 8080, protocol: 'http' }]
  }
  const theirs: MeshService = {
    name: 'theirs', address: '10.99.0.1', spiffeIds: [id('z')], ports: [{ port: 80, targetPort: 8080, protocol: 'http' }]
  }
  rig.directory.set({
    services: [web, theirs], endpoints: [...rig.localEndpoints(), { id: id('z'), address: addressOf.z, transport: 'hbone' }]
  })
  await rig.settled()
  const log = await startZtunnel(rig, 'z')
  const explain = (error: unknown) => {
    t.comment(log().split('\n').slice(-40).join('\n'))
    throw error
  }

  await until('ztunnel to be reached', async () => (await a.http('10.99.0.1', 80)).status === 200).catch(explain)
  t.match(told(await a.http('10.99.0.1', 80)), { name: 'z' }, 'a service whose workload is behind ztunnel')
  t.equal((await a.tcp(addressOf.z, 9000)).body, 'z hello', 'its own address')
  // It logs a connection when that has ended.
  await until('ztunnel to say who called', () => /src\.identity="?spiffe:\/\/lab\.test\/ns\/shop\/sa\/a/.test(log())).catch(explain)

  await until('ztunnel to call', async () => (await z.tcp(addressOf.a, 9000)).body === 'a hello').catch(explain)
  t.match(told(await z.http(addressOf.a, 8080)), { name: 'a', xfcc: `URI=${id('z')}` }, 'a workload of ours learns who calls by ztunnel')
  await until('ztunnel to say whom it reached', () => /dst\.identity="?spiffe:\/\/lab\.test\/ns\/shop\/sa\/a/.test(log())).catch(explain)

  rig.directory.set({
    services: [{ ...web, callers: [id('c')] }, theirs],
    endpoints: [...rig.localEndpoints(), { id: id('c'), address: addressOf.z, transport: 'hbone' }]
  })
  await rig.settled()
  // ztunnel keeps its connection until the listener's old rules have drained.
  await until('the old rules to end', async () => (await z.http(addressOf.a, 8080)).status !== 200)
  t.not((await z.http(addressOf.a, 8080)).status, 200, 'who is no caller is refused behind ztunnel too')
  t.not((await a.tcp(addressOf.z, 9000)).body, 'z hello', 'and a ztunnel that is not whom it should be gets nothing')
  t.equal((await c.tcp(addressOf.a, 9000)).body, 'a hello')
})

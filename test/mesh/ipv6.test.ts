import { join } from 'node:path'
import t from 'tap'
import type { MeshService } from '../../src/mesh/mesh-state.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { until } from '../fakes/envoy.ts'
import { PodWorkload, type Reply } from '../fakes/pod-workload.ts'
import { noIpv6 } from '../fakes/pods.ts'
import { MeshRig } from './mesh-rig.ts'
import { Nodes } from './nodes.ts'

const skip = noIpv6()
const assay = join(import.meta.dirname, '../../bin/assay')
const id = (path: string) => parseSpiffeId(`spiffe://lab.test${path}`)
/** a has addresses of both kinds, b of IPv6 alone, c of IPv4 alone. */
const addressOf = { a: 'fd77::2', a4: '10.77.0.2', b: 'fd77::3', c: '10.77.0.4' } as const

const web: MeshService = {
  name: 'web', address: 'fd99::1', spiffeIds: [id('/b')], callers: ['spiffe://lab.test/a'],
  ports: [{ port: 80, targetPort: 8080, protocol: 'http', localPort: 10_080 }, { port: 90, targetPort: 9000, protocol: 'tcp' }]
}
const ofBoth: MeshService = {
  name: 'both', address: 'fd99::2', spiffeIds: [id('/c')], ports: [{ port: 80, targetPort: 8080, protocol: 'http' }]
}
const told = ({ body }: Reply) => JSON.parse(body ?? '{}') as { readonly name?: string, readonly xfcc?: string }

void t.test('the mesh over IPv6', { skip }, async t => {
  await using rig = await MeshRig.open()
  const [a, b, c] = await Promise.all([
    rig.pod('a', [addressOf.a4, addressOf.a]), rig.pod('b', addressOf.b), rig.pod('c', addressOf.c)
  ])
  rig.network.addPod('plain', 'fd77::9', { redirected: false })
  const plain = await PodWorkload.start(rig.network, 'plain')
  await rig.startEnvoy()
  await rig.serving('a', 'b', 'c')
  rig.directory.set({ services: [web, ofBoth], endpoints: rig.localEndpoints() })
  await rig.settled()
  const asA = { name: 'b', xfcc: 'URI=spiffe://lab.test/a', traceparent: null }

  t.match(told(await a.http('fd99::1', 80)), asA, 'a service has an address of IPv6, and so has its workload')
  t.equal((await a.tcp('fd99::1', 90)).body, 'b hello', 'TCP too')
  t.match(told(await a.http('::1', 10_080)), asA, 'local ports listen on ::1')
  t.match(told(await a.http('127.0.0.1', 10_080)), asA, 'and on 127.0.0.1')
  t.equal((await a.tcp(addressOf.b, 9000)).body, 'b hello', 'by the workload\'s own address')
  t.match(told(await a.http('fd99::2', 80)), { name: 'c', xfcc: 'URI=spiffe://lab.test/a' }, 'a workload of IPv4 behind it')
  t.match(told(await b.http('fd99::2', 80)), { name: 'c', xfcc: 'URI=spiffe://lab.test/b' }, 'called by one that has no address of IPv4')
  t.match(told(await b.http(addressOf.a, 8080)), { name: 'a', xfcc: undefined }, 'a workload with both is called by the one')
  t.equal((await c.tcp(addressOf.a4, 9000)).body, 'a hello', 'and by the other')
  t.match(told(await a.http('fd77::9', 8080)), { name: 'plain' }, 'the rest of the world is reached as it is')
  t.match(await plain.tcp(addressOf.b, 9000), { error: /.+/ }, 'what comes without mTLS is refused')

  const [caller, uninvited] = await Promise.all([rig.domain.issue('/a'), rig.domain.issue('/c')])
  const host = `[${addressOf.b}]`
  t.match(await rig.tunnel(caller, host, `${host}:9000`), { status: 200, body: 'b hello' }, 'a foreign HBONE client')
  t.match(await rig.tunnel(uninvited, host, `${host}:9000`), { status: 403 }, 'who is no caller')
  const relays = [`[${addressOf.a}]:9000`, '[::1]:9000', `${host}:15008`, `${addressOf.b}:9000`, '[fd77:0:0:0:0:0:0:3]:9000',
    '[::ffff:10.77.0.4]:9000']
  for (const authority of relays) {
    t.not((await rig.tunnel(caller, host, authority)).status, 200, `a tunnel to ${authority} is refused: one spelling, one workload`)
  }
  t.match(await rig.callDirectly(caller, addressOf.b, 8080), { status: 200, body: /URI=spiffe:\/\/lab.test\/a"/ }, 'plain mTLS')
  t.match(await rig.callDirectly(uninvited, addressOf.b, 8080), { error: /.+/ }, 'by who is no caller')
  t.ok(rig.envoyRuns)

  rig.directory.set({
    services: [web, ofBoth], endpoints: [...rig.localEndpoints(), { id: id('/b'), address: 'fd77::77', transport: 'hbone' }]
  })
  await rig.settled()
  await until('the endpoint that is not there to be found out', async () => /\[fd77::77\]:8080::health_flags::.*failed_active_hc/
    .test(await rig.admin('/clusters')))
  const names = await Promise.all(Array.from({ length: 10 }, async () => told(await a.http('fd99::1', 80)).name))
  t.strictSame(new Set(names), new Set(['b']), 'and no call is lost on it')
})

void t.test('agents over IPv6: redirection that they write, and processes of the host', { skip, timeout: 120_000 }, async t => {
  await using nodes = await Nodes.open()
  const agent = await nodes.startNode('one', { mesh: { host_processes: true } })
  nodes.network.addPod('one/a', ['10.77.0.2', 'fd77::2'], { redirected: false })
  nodes.network.addPod('one/b', 'fd77::3', { redirected: false })
  await Promise.all([
    nodes.register(agent, '/a', 'netns:name:a'), nodes.register(agent, '/web', 'netns:name:b'),
    nodes.register(agent, '/alice', 'unix:uid:1001')
  ])
  const [a] = await Promise.all(['one/a', 'one/b'].map(name => PodWorkload.start(nodes.network, name)))
  await nodes.service('web', 'fd99::1', ['/web'])
  await until('a to reach the service', async () => told(await a!.http('fd99::1', 80)).xfcc === 'URI=spiffe://example.org/a')
  const known = Object.fromEntries((await nodes.status('one')).workloads.map(({ name, addresses }) => [name, addresses]))
  t.strictSame(known, { a: ['10.77.0.2', 'fd77::2'], b: ['fd77::3'] }, 'addresses of both kinds are found')
  t.equal((await a!.tcp('fd99::1', 90)).body, 'one/b hello')
  t.equal((await a!.tcp('fd77::3', 9000)).body, 'one/b hello', 'a workload of a service is reached by its own address')

  nodes.network.inNode('ip', 'route', 'add', 'fd99::/16', 'dev', 'br0')
  nodes.network.inNode(assay, 'redirect', 'apply', '-uid', '1001')
  const alice = await PodWorkload.startOnNode(nodes.network, 1001)
  await until('alice to reach the service', async () => told(await alice.http('fd99::1', 80)).xfcc === 'URI=spiffe://example.org/alice')
  t.equal((await alice.tcp('fd99::1', 90)).body, 'one/b hello', 'a process of the host')
})

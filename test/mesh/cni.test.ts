import { createServer } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { meshHandlers, type MeshHandlersDeps } from '../../src/mesh/mesh-handlers.ts'
import { MeshNode } from '../../src/mesh/mesh-node.ts'
import { ProxyState } from '../../src/mesh/ads/proxy-state.ts'
import { defaultMeshSettings } from '../../src/mesh/mesh-state.ts'
import { AnnouncedWorkloads } from '../../src/mesh/workloads/announced-workloads.ts'
import { WorkloadRegistry } from '../../src/mesh/workloads/workload-registry.ts'
import { bind, openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { meshService } from '../../src/wire/generated/agent-sync.ts'
import { callCniPlugin as call } from '../fakes/cni-plugin.ts'
import { noEpochs } from '../fakes/epochs.ts'
import { FakeIdentities, identityOf, TestTrustDomain } from '../fakes/identities.ts'
import { noNamespaces, PodNetwork } from '../fakes/pods.ts'

void t.test('what the plugin says without an agent', async t => {
  t.match(await call({ CNI_COMMAND: 'VERSION' }), { code: 0, answer: { supportedVersions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] } })
  t.match(await call({}), { code: 1, answer: { code: 4, msg: /CNI_COMMAND is missing/ } })
  t.match(await call({ CNI_COMMAND: 'ADD' }), { code: 1, answer: { code: 6 } }, 'no configuration')
  const config = { cniVersion: '1.0.0', name: 'pods', socketPath: '/nowhere/xds.sock' }
  const add = { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'a', CNI_NETNS: '/run/netns/a' }
  const away = await call(add, config)
  t.match(away, { code: 1, answer: { cniVersion: '1.0.0', code: 11, msg: /\/nowhere\/xds.sock/ } }, 'no agent: try again later')
  t.match(await call({ ...add, CNI_COMMAND: 'DEL' }, config), { code: 0, answer: {}, err: /will find out/ }, 'nobody waits for it to go')
  t.match(await call({ CNI_COMMAND: 'CHECK', CNI_CONTAINERID: 'a' }, config), { code: 1, answer: { code: 11 } })
  t.match(await call({ CNI_COMMAND: 'DANCE', CNI_CONTAINERID: 'a' }, config), { code: 1, answer: { code: 4 } })
})

void t.test('what the plugin does not take', async t => {
  const config = { cniVersion: '1.1.0', name: 'pods', socketPath: '/nowhere/xds.sock' }
  const add = { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'a', CNI_NETNS: '/run/netns/a' }
  const refused: [string, number, Record<string, string>, object | string][] = [
    ['half of a configuration', 6, add, '{"cniVersion": "1.1.0",'],
    ['a list', 6, add, '[]'],
    ['a version that nobody speaks', 1, add, { ...config, cniVersion: '2.0.0' }],
    ['a policy that there is none', 7, add, { ...config, onFailure: 'perhaps' }],
    ['a time that nobody waits', 7, add, { ...config, timeoutSeconds: 1_000 }],
    ['what others said, in another form', 6, add, { ...config, prevResult: { ips: [{ gateway: '10.0.0.1' }] } }],
    ['no container', 4, { CNI_COMMAND: 'ADD', CNI_NETNS: '/run/netns/a' }, config],
    ['no namespace', 4, { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'a' }, config],
    ['arguments that are none', 4, { ...add, CNI_ARGS: 'K8S_POD_NAME' }, config],
    ['an argument twice', 4, { ...add, CNI_ARGS: 'K8S_POD_NAME=a;K8S_POD_NAME=b' }, config],
    ['nothing that is still valid', 6, { CNI_COMMAND: 'GC' }, config],
    ['more than there can be', 6, add, ' '.repeat(4 * 1024 * 1024 + 1)]
  ]
  const answers = await Promise.all(refused.map(([, , environment, input]) => call(environment, input)))
  for (const [index, [what, code]] of refused.entries()) {
    t.match(answers[index], { code: 1, answer: { code, msg: /.+/ } }, what)
  }
})

void t.test('an agent that does not answer', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'cni-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const silent = createServer(socket => { socket.on('error', () => {}).resume() })
  const socketPath = join(folder, 'xds.sock')
  await new Promise<void>(resolve => { silent.listen(socketPath, resolve) })
  t.teardown(() => { silent.close() })
  const config = { cniVersion: '1.1.0', name: 'pods', socketPath, timeoutSeconds: 1, prevResult: { ips: [{ address: '10.77.0.2/24' }] } }
  const add = {
    CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'a', CNI_NETNS: '/run/netns/a', CNI_ARGS: 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0'
  }
  const system = { ...add, CNI_ARGS: 'K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns' }
  const [closed, passed, exempt, strict, removed] = await Promise.all([
    call(add, config), call(add, { ...config, onFailure: 'pass' }), call(system, config),
    call(system, { ...config, exemptNamespaces: [] }), call({ ...add, CNI_COMMAND: 'DEL' }, config)
  ])
  t.match(closed, { code: 1, answer: { code: 11, details: /deadline_exceeded|server_unreachable/ } }, 'the pod does not start')
  const warned = /shop\/web-0 starts outside the mesh, since onFailure is pass/
  t.match(passed, { code: 0, answer: { ips: [{ address: '10.77.0.2/24' }] }, err: warned })
  t.match(exempt, { code: 0, err: /namespace kube-system is one of exemptNamespaces/ }, 'what the node needs starts, and it is said')
  t.match(strict, { code: 1, answer: { code: 11 } })
  t.match(removed, { code: 0, answer: {} })
})

void t.test('containers come and go, and outlive the agent', { skip: noNamespaces() }, async t => {
  await using network = await PodNetwork.open()
  const domain = await TestTrustDomain.create('lab.test')
  const folder = await mkdtemp(join(tmpdir(), 'cni-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const identities = new FakeIdentities(domain.bundle)
  const selectors = [['id', 'c1'], ['network', 'pods'], ['K8S_POD_NAMESPACE', 'shop'], ['K8S_POD_NAME', 'web-0']] as const
  identities.set(selectors.map(([name, value]) => ({ type: 'cni', value: `${name}:${value}` })),
    identityOf(domain.bundle, [await domain.issue('/shop/web')]))
  network.addPod('c1', '10.77.0.2', { redirected: false })
  const config = {
    cniVersion: '1.0.0', name: 'pods', type: 'assay-cni', socketPath: join(folder, 'xds.sock'),
    prevResult: { cniVersion: '1.0.0', ips: [{ address: '10.77.0.2/24' }], interfaces: [] }
  }
  const environment = (command: string) => ({
    CNI_COMMAND: command, CNI_CONTAINERID: 'c1', CNI_NETNS: network.path('c1'), CNI_IFNAME: 'eth0',
    CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0'
  })

  {
    await using agent = await startMesh(folder, identities, domain)
    t.match(await call(environment('ADD'), config), { code: 0, answer: config.prevResult }, 'what was before it goes on unchanged')
    const expected = [{ name: 'shop/web-0', addresses: ['10.77.0.2'], id: 'spiffe://lab.test/shop/web' }]
    t.match(agent.registry.state.workloads, expected)
    t.match(await call(environment('CHECK'), config), { code: 1, answer: { code: 11, details: /proxy_unready/ } }, 'no proxy serves it')
    t.match(await call({ ...environment('CHECK'), CNI_CONTAINERID: 'c9' }, config), { code: 1, answer: { code: 3 } }, 'never added')
    t.match(await call(environment('ADD'), config), { code: 0 })
    t.equal(agent.registry.arrivals.length, 1, 'saying it again is harmless')
    const forged = { ...config, prevResult: { ips: 'none' } }
    t.match(await call(environment('ADD'), forged), { code: 1, answer: { code: 6 } })
    t.match(await call({ ...environment('ADD'), CNI_CONTAINERID: '../x' }, config), { code: 1, answer: { code: 100 } })
    const spelled = { ...config, prevResult: { ips: [{ address: 'FD77:0:0::2/64' }] } }
    t.match(await call(environment('ADD'), spelled), { code: 0 })
    t.match(agent.registry.arrivals, [{ addresses: ['fd77::2'] }], 'an address has one spelling, which is what the proxy compares')
    t.match(await call(environment('ADD'), config), { code: 0 })
    const nowhere = { ...config, prevResult: { ips: [{ address: 'elsewhere' }] } }
    t.match(await call(environment('ADD'), nowhere), { code: 1, answer: { code: 100, details: /argument_invalid/ } })
    const other = { ...environment('ADD'), CNI_CONTAINERID: 'c2', CNI_NETNS: '/etc/passwd' }
    t.match(await call(other, config), { code: 1, answer: { code: 100 } })
  }
  await using again = await startMesh(folder, identities, domain)
  t.match(again.registry.arrivals, [{ name: 'shop/web-0' }], 'an agent that restarts knows it')
  const valid = (...ids: string[]) => (
    { ...config, 'cni.dev/valid-attachments': ids.map(containerID => ({ containerID, ifname: 'eth0' })) })
  t.match(await call({ CNI_COMMAND: 'GC' }, valid('c1')), { code: 0 })
  t.match(await call({ CNI_COMMAND: 'GC' }, { ...valid(), name: 'another' }), { code: 0 })
  t.equal(again.registry.arrivals.length, 1, 'one that is still valid stays, and so does another network\'s')
  t.match(await call({ CNI_COMMAND: 'GC' }, valid()), { code: 0 })
  t.strictSame(again.registry.arrivals, [], 'one that nobody knows any more goes')
  t.match(await call(environment('ADD'), config), { code: 0 })
  t.match(await call(environment('DEL'), config), { code: 0 })
  t.strictSame(again.registry.arrivals, [])
  t.match(await call(environment('DEL'), config), { code: 0 }, 'also of one that is gone')
})

void t.test('a container does not start before its connections are redirected', { skip: noNamespaces() }, async t => {
  await using network = await PodNetwork.open()
  const domain = await TestTrustDomain.create('lab.test')
  const folder = await mkdtemp(join(tmpdir(), 'cni-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const identities = new FakeIdentities(domain.bundle)
  const facts = (id: string) => [`id:${id}`, 'network:pods'].map(value => ({ type: 'cni', value }))
  identities.set(facts('c1'), identityOf(domain.bundle, [await domain.issue('/c1')]))
  identities.set(facts('c2'), identityOf(domain.bundle, []))
  for (const [name, address] of [['c1', '10.77.0.2'], ['c2', '10.77.0.3']] as const) network.addPod(name, address, { redirected: false })
  const events: string[] = []
  let isDone = true
  await using agent = await startMesh(folder, identities, domain, {
    async untilDone (uid) {
      await nextTurn()
      events.push(`${uid.slice(0, 2)} redirected: ${isDone}`)
      return isDone
    }
  })
  const config = { cniVersion: '1.0.0', name: 'pods', type: 'assay-cni', socketPath: join(folder, 'xds.sock') }
  const add = async (id: string) => {
    const said = await call({ CNI_COMMAND: 'ADD', CNI_CONTAINERID: id, CNI_NETNS: network.path(id), CNI_IFNAME: 'eth0' }, config)
    events.push(`${id} added: ${said.code}`)
    return said
  }
  await add('c1')
  await add('c2')
  t.same(events, ['c1 redirected: true', 'c1 added: 0', 'c2 added: 0'], 'one without an identity is left alone')
  isDone = false
  t.match(await add('c1'), { code: 1, answer: { code: 100, details: /redirect_failed/ } })
  t.equal(agent.registry.arrivals.length, 2, 'until its runtime takes it away again')
})

async function startMesh (
  folder: string, identities: FakeIdentities, domain: TestTrustDomain, redirects?: MeshHandlersDeps['redirects']
) {
  await using scope = new AsyncDisposableStack()
  const registry = scope.use(new WorkloadRegistry(identities, silentLogger))
  const announced = scope.use(await AnnouncedWorkloads.open({
    file: join(folder, 'workloads.json'), pins: join(folder, 'netns'), registry
  }))
  const settings = { ...defaultMeshSettings, accessLogPath: undefined, authorizationSocketPath: '', trustDomain: domain.name }
  const node = new MeshNode({
    settings, registry, clock: systemClock, epochs: noEpochs,
    own: signal => identities.watch([], signal),
    async * directory () { yield { services: [], endpoints: [] } },
    async * revoked () { yield { digests: new Set(), ids: new Set() } },
    async * policies () { yield { kind: 'none' } }
  })
  const handlers = meshHandlers({
    node, proxy: new ProxyState(), registry, announced, redirects, envoy: undefined, settings, now: () => new Date()
  })
  const rpc = scope.use(openRpcServer({ services: [bind(meshService, handlers)], log: silentLogger, clock: systemClock }))
  await rpc.listenUnix({ path: join(folder, 'xds.sock'), mode: 0o600 })
  const held = scope.move()
  return { registry, [Symbol.asyncDispose]: () => held.disposeAsync() }
}

import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { meshHandlers } from '../../src/mesh/mesh-handlers.ts'
import { MeshNode } from '../../src/mesh/mesh-node.ts'
import { ProxyState } from '../../src/mesh/ads/proxy-state.ts'
import { defaultMeshSettings } from '../../src/mesh/mesh-state.ts'
import { AnnouncedWorkloads } from '../../src/mesh/workloads/announced-workloads.ts'
import { WorkloadRegistry } from '../../src/mesh/workloads/workload-registry.ts'
import { bind, openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { meshService } from '../../src/wire/generated/agent-sync.ts'
import { noEpochs } from '../fakes/epochs.ts'
import { FakeIdentities, identityOf, TestTrustDomain } from '../fakes/identities.ts'
import { noNamespaces, PodNetwork } from '../fakes/pods.ts'

const program = join(import.meta.dirname, '../../bin/assay-cni')

interface Plugin { readonly code: number, readonly answer: Record<string, unknown> }

/** The plugin as a container runtime calls it. */
function call (environment: Record<string, string>, config?: object): Promise<Plugin> {
  return new Promise(resolve => {
    const child = execFile(program, { env: { PATH: process.env['PATH'], ...environment } }, (error, stdout) => {
      const answer = (stdout === '' ? {} : JSON.parse(stdout)) as Record<string, unknown>
      resolve({ code: (error?.code as number | undefined) ?? 0, answer })
    })
    child.stdin?.end(config === undefined ? '' : JSON.stringify(config))
  })
}

void t.test('what the plugin says without an agent', async t => {
  t.match(await call({ CNI_COMMAND: 'VERSION' }), { code: 0, answer: { supportedVersions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] } })
  t.match(await call({}), { code: 1, answer: { code: 4, msg: /CNI_COMMAND is missing/ } })
  t.match(await call({ CNI_COMMAND: 'ADD' }), { code: 1, answer: { code: 6 } }, 'no configuration')
  const config = { cniVersion: '1.0.0', name: 'pods', socketPath: '/nowhere/xds.sock' }
  const away = await call({ CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'a' }, config)
  t.match(away, { code: 1, answer: { cniVersion: '1.0.0', code: 11, msg: /\/nowhere\/xds.sock/ } }, 'no agent: try again later')
  t.match(await call({ CNI_COMMAND: 'DANCE', CNI_CONTAINERID: 'a' }, config), { code: 1, answer: { code: 4 } })
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
    t.match(await call(environment('CHECK'), config), { code: 0 })
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
  t.match(await call(environment('DEL'), config), { code: 0 })
  t.strictSame(again.registry.arrivals, [])
  t.match(await call(environment('DEL'), config), { code: 0 }, 'also of one that is gone')
})

async function startMesh (folder: string, identities: FakeIdentities, domain: TestTrustDomain) {
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
  const handlers = meshHandlers({ node, proxy: new ProxyState(), registry, announced, envoy: undefined, settings, now: () => new Date() })
  const rpc = scope.use(openRpcServer({ services: [bind(meshService, handlers)], log: silentLogger, clock: systemClock }))
  await rpc.listenUnix({ path: join(folder, 'xds.sock'), mode: 0o600 })
  const held = scope.move()
  return { registry, [Symbol.asyncDispose]: () => held.disposeAsync() }
}

import { join } from 'node:path'
import t from 'tap'
import { openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { meshService, type MeshStatus } from '../../src/wire/generated/agent-sync.ts'
import { serviceRegistryService } from '../../src/wire/generated/cluster.ts'
import { revocationService } from '../../src/wire/generated/revocation.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { encodeSpiffeId } from '../../src/wire/spiffe-id-codec.ts'
import { findEnvoy, until } from '../fakes/envoy.ts'
import { PodWorkload } from '../fakes/pod-workload.ts'
import { noNamespaces, PodNetwork } from '../fakes/pods.ts'
import { type RunningAgent, type RunningServer, startAgent, startServer } from '../fakes/processes.ts'

const skip = noNamespaces()
const assay = join(import.meta.dirname, '../../bin/assay')

/** A real server and real agents that each run the Envoy of their node, in one network; pods of each node in a folder of their own. */
class Nodes implements AsyncDisposable {
  readonly network: PodNetwork
  readonly server: RunningServer
  readonly #scope: AsyncDisposableStack
  readonly #admin: Channel

  private constructor (network: PodNetwork, server: RunningServer, scope: AsyncDisposableStack) {
    this.network = network
    this.server = server
    this.#scope = scope
    this.#admin = scope.use(openUnixChannel(server.adminSocket))
  }

  static async open (): Promise<Nodes> {
    await using scope = new AsyncDisposableStack()
    const network = scope.use(await PodNetwork.open())
    const server = scope.use(await startServer({ netns: network.node }))
    return new Nodes(network, server, scope.move())
  }

  async startNode (name: string, mesh: Readonly<Record<string, unknown>> = {}): Promise<RunningAgent> {
    const netnsDir = join(this.network.folder, name)
    const agent = await startAgent({
      server: this.server,
      netns: this.network.node,
      config: { log_level: 'debug' },
      blocks: {
        mesh: {
          socket_path: join(this.network.folder, `../${name}-xds.sock`), netns_dir: netnsDir, run_envoy: true,
          envoy: { path: findEnvoy(), concurrency: 1 }, access_log: join(this.network.folder, `../${name}-access.log`), ...mesh
        }
      }
    })
    return this.#scope.use(agent)
  }

  async status (name: string): Promise<MeshStatus> {
    await using channel = openUnixChannel(join(this.network.folder, `../${name}-xds.sock`))
    return await channel.client(meshService).getMeshStatus({})
  }

  async register (agent: RunningAgent, path: string, selector: string): Promise<string> {
    const [type = '', value = ''] = selector.split(/:(.*)/s)
    const { results: [result] } = await this.#admin.client(entryService).batchCreateEntry({
      entries: [{
        spiffeId: encodeSpiffeId(parseSpiffeId(`spiffe://example.org${path}`)), parentId: encodeSpiffeId(parseSpiffeId(agent.id)),
        selectors: [{ type, value }]
      }]
    })
    return result?.entry?.id ?? ''
  }

  /** @returns what lifts it again */
  async revoke (path: string): Promise<() => Promise<void>> {
    const client = this.#admin.client(revocationService)
    const { revocation } = await client.revoke({ spiffeId: encodeSpiffeId(parseSpiffeId(`spiffe://example.org${path}`)), reason: 'test' })
    return async () => { await client.liftRevocation({ id: revocation?.id }) }
  }

  async unregister (id: string): Promise<void> {
    await this.#admin.client(entryService).batchDeleteEntry({ ids: [id] })
  }

  async service (name: string, address: string, spiffeIds: readonly string[], callers?: readonly string[]): Promise<void> {
    const { results: [result] } = await this.#admin.client(serviceRegistryService).batchCreateService({
      services: [{
        name, address, spiffeIds: spiffeIds.map(path => `spiffe://example.org${path}`), inbound: 'strict',
        ports: [{ port: 80, targetPort: 8080, protocol: 'http' }, { port: 90, targetPort: 9000, protocol: 'tcp' }],
        callers: callers === undefined ? undefined : { patterns: callers.map(path => `spiffe://example.org${path}`) }
      }]
    })
    if (result?.status?.code !== 0) throw new Error(`no service: ${result?.status?.message}`)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }
}

void t.test('two nodes: agents run their Envoys, services are reached, workloads come and go', { skip, timeout: 120_000 }, async t => {
  await using nodes = await Nodes.open()
  const [one, two] = await Promise.all([nodes.startNode('one'), nodes.startNode('two')])
  const pods = [['one/a', '10.77.0.2'], ['one/b', '10.77.0.3'], ['two/c', '10.77.0.4'], ['two/d', '10.77.0.5']] as const
  for (const [name, address] of pods) nodes.network.addPod(name, address, { redirected: false })
  await Promise.all([
    nodes.register(one, '/a', 'netns:name:a'), nodes.register(one, '/b', 'netns:name:b'),
    nodes.register(two, '/web', 'netns:name:c')
  ])
  const [a, b, c] = await Promise.all(pods.map(([name]) => PodWorkload.start(nodes.network, name)))
  await nodes.service('web', '10.99.0.1', ['/web'], ['/a'])
  // Until its own proxy knows that the port speaks HTTP, the workload is not told who calls.
  const called = async () => (await a!.http('10.99.0.1', 80)).body?.includes('URI=spiffe://example.org/a') === true
  await until('a to reach the service', called).catch((error: unknown) => {
    t.comment(one.log().split('\n').slice(-60).join('\n'))
    t.comment(two.log().split('\n').slice(-60).join('\n'))
    throw error
  })
  const { body } = await a!.http('10.99.0.1', 80)
  const told = { name: 'two/c', xfcc: 'URI=spiffe://example.org/a' }
  t.match(JSON.parse(body ?? '{}'), told, 'the workload on the other node learns who called')
  t.equal((await a!.tcp('10.99.0.1', 90)).body, 'two/c hello')
  t.not((await b!.http('10.99.0.1', 80)).status, 200, 'who is no caller of the service is refused')
  t.match(await a!.tcp('10.77.0.2', 9000), { body: 'one/a hello' }, 'a workload reaches itself')
  t.match(await c!.http('10.77.0.3', 8080), { error: /.+/ }, 'one that answers for no service is not reached, in the clear least of all')

  const { workloads, proxies, envoy } = await nodes.status('two')
  const byName = Object.fromEntries(workloads.map(one => [one.name, one]))
  t.match(byName, { c: { spiffeId: 'spiffe://example.org/web', served: true }, d: { spiffeId: '' } })
  t.match({ proxies, envoy }, { proxies: 1, envoy: { state: 'LIVE', version: '1.40.0', restarts: 0 } })

  const id = await nodes.register(two, '/web', 'netns:name:d')
  await until('the second workload of the service', async () =>
    /two\/d/.test((await a!.http('10.99.0.1', 80)).body ?? ''))
  await nodes.unregister(id)
  let statuses: (number | undefined)[] = []
  await until('the second workload to answer no more', async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => a!.http('10.99.0.1', 80)))
    statuses = [...statuses, ...answers.map(({ status }) => status)]
    return answers.every(({ body }) => body?.includes('two/c') === true)
  })
  t.strictSame(new Set(statuses), new Set([200]), 'no call is lost on the way')

  const lift = await nodes.revoke('/a')
  const refused = async () => (await a!.http('10.99.0.1', 80)).status !== 200
  await until('an ID that is revoked to get no further', refused)
  await lift()
  await until('its identity to be back', called)

  process.kill(envoy?.pid ?? 0, 'SIGKILL')
  await until('Envoy to be started again', async () => (await nodes.status('two')).envoy?.restarts === 1)
  await until('the service to be reached again', called)
})

void t.test('processes of the host itself call with the identity of whoever has the connection', { skip, timeout: 120_000 }, async t => {
  await using nodes = await Nodes.open()
  const agent = await nodes.startNode('one', { host_processes: true })
  nodes.network.addPod('one/b', '10.77.0.3', { redirected: false })
  await PodWorkload.start(nodes.network, 'one/b')
  await Promise.all([nodes.register(agent, '/web', 'netns:name:b'), nodes.register(agent, '/alice', 'unix:uid:1001')])
  await nodes.service('web', '10.99.0.1', ['/web'])
  // A virtual address needs a route, as any other that is not on the link.
  nodes.network.inNode('ip', 'route', 'add', '10.99.0.0/16', 'dev', 'br0')
  for (const uid of [1001, 1002]) nodes.network.inNode(assay, 'redirect', 'apply', '-uid', String(uid))
  const [alice, bob] = await Promise.all([1001, 1002].map(uid => PodWorkload.startOnNode(nodes.network, uid)))
  await until('alice to reach the service', async () => (await alice!.http('10.99.0.1', 80)).body?.includes('xfcc":"URI') === true)
  const peers: (string | undefined)[] = []
  // One that could not be attested in time fails, and is tried again; none is taken for another's.
  await until('ten calls', async () => {
    const { status, body } = await alice!.http('10.99.0.1', 80)
    if (status === 200) peers.push((JSON.parse(body ?? '{}') as { xfcc?: string }).xfcc)
    return peers.length === 10
  })
  t.strictSame(new Set(peers), new Set(['URI=spiffe://example.org/alice']), 'each connection is attested')
  t.equal((await alice!.tcp('10.99.0.1', 90)).body, 'one/b hello')
  t.not((await bob!.http('10.99.0.1', 80)).status, 200, 'a process without an entry gets nowhere')
  t.equal((await bob!.tcp('10.99.0.1', 90)).body ?? '', '', 'nor by TCP')
  t.ok(agent.log().includes('a connection has no identity: no entry matches'), 'and the agent says so')
})

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createHash, X509Certificate } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { findEnvoy, until } from '../fakes/envoy.ts'
import { eventually } from '../fakes/eventually.ts'
import { MachineCa } from '../fakes/machine-ca.ts'
import { RunningProcess, startAgent, startServer } from '../fakes/processes.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer, type SpireServer } from '../fakes/spire.ts'
import { portOf, startLoad, startPlacedEnvoy, startWorkload, type Load } from '../envoy/mesh.ts'
import { Administrator } from '../interop/administrator.ts'

const withoutEnvoy = findEnvoy() === undefined ? 'there is no Envoy here; `npm test` brings one' : false
const skip = withoutSpireServer || withoutSpireAgent || withoutEnvoy
t.setTimeout(1_500_000)
if (skip !== false) t.comment(`takeover under load: skipped: ${skip}`)
const patienceMs = 120_000
/** How long the load goes on between two agents that move. */
const betweenMs = Number(process.env['SOAK_SECONDS'] ?? 30) * 100

const [web, backend, batch] = ['web', 'backend', 'batch'].map(name => `spiffe://example.org/${name}`) as [string, string, string]

/** A node whose agent, SPIRE's or ours, serves at the same socket and joins by the same certificate of its machine. */
class Node {
  readonly id: string
  readonly socket: string
  readonly #folder: string
  readonly #path: string
  readonly #machine: Readonly<Record<string, string>>
  #agent: AsyncDisposable | undefined

  private constructor (folder: string, path: string, machine: Readonly<Record<string, string>>) {
    this.#folder = folder
    this.#path = path
    this.#machine = machine
    this.id = `spiffe://example.org/spire/agent${path}`
    this.socket = join(folder, 'agent.sock')
  }

  static async create (ca: MachineCa, folder: string, name: string): Promise<Node> {
    await mkdir(folder)
    const { certificate, key } = await ca.certify({ name: `CN=${name}`, key: 'P-256' })
    const machine = { certificate_path: join(folder, 'machine.pem'), private_key_path: join(folder, 'machine.key') }
    await writeFile(machine.certificate_path, certificate)
    await writeFile(machine.private_key_path, key)
    return new Node(folder, `/x509pop/${createHash('sha1').update(new X509Certificate(certificate).raw).digest('hex')}`, machine)
  }

  async runSpires (server: SpireServer): Promise<void> {
    await this.stop()
    this.#agent = await startSpireAgent(server, { name: 'x509pop', data: this.#machine, path: this.#path }, { socketPath: this.socket })
  }

  async runOurs (server: Awaited<ReturnType<typeof startServer>>): Promise<void> {
    await this.stop()
    await rm(join(this.#folder, 'data'), { recursive: true, force: true })
    const agent = await startAgent({ server, folder: this.#folder, plugins: { NodeAttestor: { x509pop: { plugin_data: this.#machine } } } })
    this.#agent = { async [Symbol.asyncDispose] () { await agent.stop() } }
  }

  async stop (): Promise<void> {
    const agent = this.#agent
    this.#agent = undefined
    await agent?.[Symbol.asyncDispose]()
  }
}

await t.test('five agents move from a real SPIRE server to ours and back under load', { skip, timeout: 1_500_000 }, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
  await using scope = new AsyncDisposableStack()
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const ca = await MachineCa.create('CN=Company CA')
  const roots = join(folder, 'roots.pem')
  await writeFile(roots, ca.pem)
  const [attestor, config] = [{ ca_bundle_path: roots }, { default_x509_svid_ttl: '60s' }]
  const spire = scope.use(await startSpireServer({ nodeAttestors: { x509pop: attestor }, config }))
  const ours = scope.use(await startServer({ config, blocks: { plugins: { NodeAttestor: { x509pop: { plugin_data: attestor } } } } }))
  const there = scope.use(new Administrator(spire))
  const here = scope.use(new Administrator(ours))
  const nodes: Node[] = []
  for (let n = 1; n <= 5; n++) {
    const node = await Node.create(ca, join(folder, `node-${n}`), `host-${n}`)
    scope.defer(() => node.stop())
    await node.runSpires(spire)
    nodes.push(node)
  }
  // Servers on the second and the fourth node, callers on the others.
  const [one, two, three, four, five] = nodes as [Node, Node, Node, Node, Node]
  for (const node of [two, four]) await there.register(backend, node.id)
  for (const node of [one, three, five]) for (const id of [web, batch]) await there.register(id, node.id)

  const workload = scope.use(await startWorkload())
  const behind = { backend: { host: '127.0.0.1', port: workload.port } }
  const ports = new Map<Node, number>()
  for (const node of [two, four]) {
    const envoy = scope.use(await startPlacedEnvoy('server-node.yaml', 'GRPC', node.socket, behind))
    ports.set(node, await portOf(envoy, 'mtls'))
    await envoy.ready()
  }
  const loads: Load[] = []
  for (const [caller, callee] of [[one, two], [three, four], [five, two]] as const) {
    const to = { host: '127.0.0.1', port: ports.get(callee) as number }
    const clusters = { 'backend-as-web': to, 'backend-as-batch': to }
    const envoy = scope.use(await startPlacedEnvoy('client-node.yaml', 'GRPC', caller.socket, clusters))
    const port = await portOf(envoy, 'web')
    await envoy.ready()
    const load = startLoad(port)
    scope.defer(async () => { await load.stop() })
    loads.push(load)
  }
  const pause = () => new Promise(resolve => { setTimeout(resolve, betweenMs) })
  await until('the first calls', () => loads.every(({ certificates }) => certificates.size > 0), patienceMs)

  const file = join(folder, 'takeover.json')
  const words = ['-spireSocketPath', spire.adminSocket, '-socketPath', ours.adminSocket, '-state', file]
  const assay = (...command: readonly string[]) => runAssay(['takeover', ...command, ...words])
  const places = async () => {
    const { stdout } = await assay('status', '-output', 'json')
    const { agents } = JSON.parse(stdout) as { agents: readonly { id: string, place: string }[] }
    return new Map(agents.map(({ id, place }) => [id, place]))
  }
  const rotate = async (side: Administrator, other: Administrator) => {
    const x509 = (await side.authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
    const jwt = (await side.authorities.prepareJWTAuthority({})).preparedAuthority?.authorityId ?? ''
    const { x509Authorities } = await side.bundles.getBundle({})
    await eventually('the new authorities at the other server', async () => {
      const bundle = await other.bundles.getBundle({})
      return bundle.jwtAuthorities.some(({ keyId }) => keyId === jwt) && bundle.x509Authorities.length >= x509Authorities.length
    }, patienceMs)
    // SPIRE's agents look every second, ours are told.
    await pause()
    await pause()
    await side.authorities.activateX509Authority({ authorityId: x509 })
    await side.authorities.activateJWTAuthority({ authorityId: jwt })
  }
  const run = () => new RunningProcess(['takeover', 'run', ...words, '-interval', '500ms'])

  t.match(await assay('plan'), { code: 0 })
  t.equal((await assay('start', '-settle', '10')).code, 0)
  let keeper = run()
  scope.defer(() => keeper.kill9())
  await eventually('agents to be free to move', async () => (await assay('status')).code === 0, patienceMs)

  for (const [index, node] of nodes.entries()) {
    await node.runOurs(ours)
    await eventually('the agent here', async () => (await places()).get(node.id) === 'here', patienceMs)
    if (index === 1) await rotate(there, here)
    if (index === 2) {
      await keeper.kill9()
      t.match(await assay('rollback'), { code: 4, stderr: /takeover_agents_moved/ }, 'in the middle, it would break three')
      keeper = run()
    }
    if (index === 3) await rotate(here, there)
    await pause()
  }
  t.same([...(await places()).values()], Array.from({ length: 5 }, () => 'here'), 'the full move')
  t.match(await assay('finish'), { code: 0 })
  t.equal(await keeper.stop(), 0, 'what keeps both equal ends with the takeover')
  await pause()
  const atOurs = loads.map(({ certificates }) => certificates.size)

  t.match(await assay('rollback'), { code: 4, stderr: /takeover_agents_moved/ })
  for (const node of nodes.toReversed()) {
    await node.runSpires(spire)
    await pause()
  }
  await eventually('our server to miss all agents', async () => ![...(await places()).values()].includes('here'), patienceMs)
  t.match(await assay('rollback'), { code: 0 }, 'the full roll-back')
  t.equal((await here.entries.listEntries({})).entries.length, 0)
  await until('new certificates from SPIRE', () =>
    loads.every(({ certificates }, index) => certificates.size > (atOurs[index] ?? 0)), patienceMs)
  await pause()

  const ends = await Promise.all(loads.map(load => load.stop()))
  t.same(ends.flatMap(({ failures }) => failures), [], `none of ${ends.map(({ requests }) => requests).join(' + ')} requests failed, ` +
    `${loads.map(({ certificates }) => certificates.size).join(', ')} certificates`)
})

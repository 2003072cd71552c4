import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { AgentMove } from '../../src/takeover/agent-moves.ts'
import { findEnvoy, until } from '../fakes/envoy.ts'
import { eventually } from '../fakes/eventually.ts'
import { RunningProcess, startAgent, startServer, type RunningServer } from '../fakes/processes.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer, type SpireServer } from '../fakes/spire.ts'
import { portOf, startLoad, startPlacedEnvoy, startWorkload } from '../envoy/mesh.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'

const withoutEnvoy = findEnvoy() === undefined ? 'there is no Envoy here; `npm test` brings one' : false
const skip = withoutSpireServer || withoutSpireAgent || withoutEnvoy
t.setTimeout(600_000)
if (skip !== false) t.comment(`takeover of agents that joined by tokens: skipped: ${skip}`)
const patienceMs = 120_000
/** How long the load goes on between two agents that move. */
const betweenMs = Number(process.env['SOAK_SECONDS'] ?? 30) * 100

const alias = 'spiffe://example.org/nodes/callers'
const [web, backend, batch] = ['web', 'backend', 'batch'].map(name => `spiffe://example.org/${name}`) as [string, string, string]

/** A node whose agent, SPIRE's or ours, serves at the same socket and joins by a token that is the end of its ID, without any data kept. */
class TokenNode {
  readonly id: string
  readonly socket: string
  readonly #folder: string
  #agent: AsyncDisposable | undefined

  private constructor (folder: string, token: string) {
    this.#folder = folder
    this.id = `spiffe://example.org/spire/agent/join_token/${token}`
    this.socket = join(folder, 'agent.sock')
  }

  static async create (folder: string, token: string): Promise<TokenNode> {
    await mkdir(folder)
    return new TokenNode(folder, token)
  }

  async runSpires (server: SpireServer, token: string): Promise<void> {
    await this.stop()
    const attestor = { name: 'join_token', data: {}, path: `/join_token/${token}` }
    this.#agent = await startSpireAgent(server, attestor, { socketPath: this.socket, config: { join_token: token } })
  }

  async runOurs (server: RunningServer, token: string): Promise<string> {
    await this.stop()
    await rm(join(this.#folder, 'data'), { recursive: true, force: true })
    const agent = await startAgent({ server, folder: this.#folder, config: { join_token: token } })
    this.#agent = { async [Symbol.asyncDispose] () { await agent.stop() } }
    return agent.id
  }

  async stop (): Promise<void> {
    const agent = this.#agent
    this.#agent = undefined
    await agent?.[Symbol.asyncDispose]()
  }
}

await t.test('agents that joined a real SPIRE server by tokens move to ours and back under load', { skip, timeout: 600_000 }, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
  await using scope = new AsyncDisposableStack()
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const config = { default_x509_svid_ttl: '60s' }
  const spire = scope.use(await startSpireServer({ config }))
  const ours = scope.use(await startServer({ config }))
  const [there, here] = [scope.use(new Administrator(spire)), scope.use(new Administrator(ours))]
  const joined = async (name: string, agentId?: string) => {
    const { value } = await there.agents.createJoinToken({ ttl: 600, ...agentId === undefined ? {} : { agentId: idMessage(agentId) } })
    const node = await TokenNode.create(join(folder, name), value)
    scope.defer(() => node.stop())
    await node.runSpires(spire, value)
    return node
  }
  // Below an agent's own ID, and below an alias that SPIRE made with the token.
  const [callee, caller] = [await joined('callee'), await joined('caller', alias)]
  await there.register(backend, callee.id)
  for (const id of [web, batch]) await there.register(id, alias)
  const foreign = await there.register('spiffe://example.org/container', alias, { selectors: [{ type: 'windows', value: 'user_name:a' }] })

  const workload = scope.use(await startWorkload())
  const server = scope.use(await startPlacedEnvoy('server-node.yaml', 'GRPC', callee.socket, {
    backend: { host: '127.0.0.1', port: workload.port }
  }))
  const to = { host: '127.0.0.1', port: await portOf(server, 'mtls') }
  await server.ready()
  const client = scope.use(await startPlacedEnvoy('client-node.yaml', 'GRPC', caller.socket, {
    'backend-as-web': to, 'backend-as-batch': to
  }))
  const port = await portOf(client, 'web')
  await client.ready()
  const load = startLoad(port)
  scope.defer(async () => { await load.stop() })
  const pause = () => new Promise(resolve => { setTimeout(resolve, betweenMs) })
  await until('the first calls', () => load.certificates.size > 0, patienceMs)

  const words = ['-spireSocketPath', spire.adminSocket, '-socketPath', ours.adminSocket, '-state', join(folder, 'takeover.json')]
  const assay = (...command: readonly string[]) => runAssay(['takeover', ...command, ...words])
  const agents = async (command: 'plan' | 'status' = 'status') => {
    const { stdout } = await assay(command, '-output', 'json')
    return new Map((JSON.parse(stdout) as { agents: readonly AgentMove[] }).agents.map(agent => [agent.id, agent]))
  }
  const tokenFor = async (node: TokenNode, ...more: readonly string[]) => {
    const { code, stdout, stderr } = await assay('token', node.id, ...more)
    t.equal(code, 0, stderr)
    const token = /^Token: (\S+)\n$/.exec(stdout)?.[1] ?? ''
    t.equal(`spiffe://example.org/spire/agent/join_token/${token}`, node.id, 'the token that makes its ID')
    return token
  }

  const planned = await agents('plan')
  t.match(planned.get(callee.id), { how: 'same-token', place: 'there', obstacles: [] })
  t.match(planned.get(caller.id), { how: 'same-token', obstacles: [/container.*windows/] }, 'what lies below its alias is its own')
  await there.unregister(foreign)
  t.same((await agents('plan')).get(caller.id)?.obstacles, [])
  t.match(await assay('token', caller.id), { code: 3, stderr: /takeover_not_settled/ })

  t.equal((await assay('start', '-settle', '10')).code, 0)
  const keeper = new RunningProcess(['takeover', 'run', ...words, '-interval', '500ms'])
  scope.defer(() => keeper.kill9())
  await eventually('agents to be free to move', async () => (await assay('status')).code === 0, patienceMs)
  for (const node of [caller, callee]) {
    t.equal(await node.runOurs(ours, await tokenFor(node)), node.id, 'the same ID')
    await eventually('the agent here', async () => (await agents()).get(node.id)?.place === 'here', patienceMs)
    await pause()
  }
  // SPIRE removes the alias that it made with the token; what is served below it here goes on.
  await there.agents.deleteAgent({ id: idMessage(caller.id) })
  await eventually('the plan to say so', async () => (await assay('status')).stdout.includes('alias-kept'), patienceMs)
  await pause()
  t.match(await assay('finish'), { code: 0 })
  t.equal(await keeper.stop(), 0)
  const { entries } = await here.entries.listEntries({})
  const aliases = entries.filter(({ selectors }) => selectors.some(({ type }) => type === 'spiffe_id'))
  t.equal(aliases.length, 1, 'the new token made no second alias')
  // Longer than an SVID of SPIRE's lives: from here on all is of our server, below alias and ID.
  await until('certificates of ours', () => load.certificates.size > 2, patienceMs)
  const atOurs = load.certificates.size

  t.match(await assay('rollback'), { code: 4, stderr: /takeover_agents_moved/ })
  for (const node of [callee, caller]) {
    await node.runSpires(spire, await tokenFor(node, '-at', 'spire'))
    await pause()
  }
  await eventually('our server to miss both', async () => [...(await agents()).values()].every(({ place }) => place !== 'here'), patienceMs)
  t.match(await assay('rollback'), { code: 0 })
  t.equal((await here.entries.listEntries({})).entries.length, 0)
  await until('new certificates from SPIRE', () => load.certificates.size > atOurs, patienceMs)
  await pause()
  const { failures, requests } = await load.stop()
  t.same(failures, [], `none of ${requests} requests failed, ${load.certificates.size} certificates`)
  t.comment(`${requests} requests, ${load.certificates.size} certificates`)
})

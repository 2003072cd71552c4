import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import { systemClock, type Clock } from '../../src/runtime/clock.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { type FakePod, KubeApi } from '../fakes/kube-api.ts'
import { startTestServer, testPlugins } from '../fakes/server.ts'
import { SkippingClock } from '../fakes/skipping-clock.ts'
import { Workload } from '../faults/workload.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'

const patienceMs = 60_000
/** Of an agent's SVID, which lives for an hour. */
const pastHalfLifeMs = 31 * 60_000
const psatOf = (cluster: string, tokenPath: string) => z.strictObject(pluginSchemas(agentCatalog))
  .parse({ NodeAttestor: { k8s_psat: { plugin_data: { cluster, token_path: tokenPath } } } })

/** One server that takes join tokens, and the agents of two clusters. */
async function setUp (t: Test, clock: Clock = systemClock) {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const newFolder = async () => {
    const folder = await mkdtemp(join(tmpdir(), 'assay-clusters-'))
    scope.defer(() => rm(folder, { recursive: true, force: true }))
    return folder
  }
  const [east, west] = [scope.use(await KubeApi.start(await newFolder())), scope.use(await KubeApi.start(await newFolder()))]
  const cluster = ({ kubeconfig }: KubeApi) => ({
    service_account_allow_list: ['spire:spire-agent'], kube_config_file: kubeconfig, allowed_node_label_keys: ['zone']
  })
  const serverLog = capturedLog()
  const server = scope.use(await startTestServer({
    clock,
    log: serverLog.log,
    config: {
      plugins: testPlugins({ NodeAttestor: { k8s_psat: { plugin_data: { clusters: { east: cluster(east), west: cluster(west) } } } } })
    }
  }))
  const admin = scope.use(new Administrator({ adminSocket: server.config.socketPath }))
  const node = async (cluster: string, api: KubeApi, pod: FakePod, log = capturedLog().log) => {
    const tokenPath = join(await newFolder(), 'token')
    await writeFile(tokenPath, api.tokenOf(pod))
    const agent = scope.use(await startTestAgent(server, { clock, log, config: { plugins: psatOf(cluster, tokenPath) } }))
    return { agent, tokenPath }
  }
  return { scope, east, west, server, serverLog, admin, node }
}

void t.test('virtual machines and two clusters in one trust domain, on one server', async t => {
  const { scope, east, west, server, admin, node } = await setUp(t)
  const eastNode = east.addNode('n1', { zone: 'a' })
  const westNode = west.addNode('n1', { zone: 'b' })
  const eastPod = east.addPod({ name: 'agent-1', node: 'n1' })
  const westPod = west.addPod({ name: 'agent-1', node: 'n1' })
  const machine = scope.use(await startTestAgent(server))
  const inEast = await node('east', east, eastPod)
  const inWest = await node('west', west, westPod)

  const { agents } = await admin.agents.listAgents({})
  const eastId = `/spire/agent/k8s_psat/east/${eastNode}`
  t.same(agents.map(({ id, attestationType, canReattest }) => [id?.path, attestationType, canReattest]), [
    [machine.path, 'join_token', false], [eastId, 'k8s_psat', true],
    [`/spire/agent/k8s_psat/west/${westNode}`, 'k8s_psat', true]
  ])
  const selectors = agents[1]?.selectors.map(({ type, value }) => `${type}:${value}`) ?? []
  for (const value of ['cluster:east', 'agent_node_label:zone:a', `agent_pod_uid:${eastPod.uid}`, `agent_node_uid:${eastNode}`]) {
    t.ok(selectors.includes(`k8s_psat:${value}`), value)
  }

  // Each by its own way: a cluster's nodes by what they have in common, a machine by its name.
  for (const cluster of ['east', 'west']) {
    await admin.register(`spiffe://example.org/nodes/${cluster}`, 'spiffe://example.org/spire/server', {
      selectors: [{ type: 'k8s_psat', value: `cluster:${cluster}` }]
    })
    await admin.register(`spiffe://example.org/${cluster}/web`, `spiffe://example.org/nodes/${cluster}`)
  }
  await admin.register('spiffe://example.org/machine/db', `spiffe://example.org${machine.path}`)
  for (const [agent, id] of [[inEast.agent, 'east/web'], [inWest.agent, 'west/web'], [machine, 'machine/db']] as const) {
    await using workload = new Workload(agent.config.socketPath)
    const state = await workload.granted(`spiffe://example.org/${id}`, patienceMs)
    t.same(state.svids.map(({ spiffeId }) => spiffeId), [`spiffe://example.org/${id}`], 'and nobody has what is another\'s')
  }

  await writeFile(inEast.tokenPath, west.tokenOf(westPod))
  const stolen = startTestAgent(server, { config: { plugins: psatOf('east', inEast.tokenPath) } })
  await t.rejects(stolen, { message: /cluster "east": token not authenticated/ }, 'a cluster vouches for its own pods only')
})

void t.test('an agent attests again instead of being renewed', async t => {
  const clock = new SkippingClock(0)
  const { east, admin, serverLog, node } = await setUp(t, clock)
  const nodeUid = east.addNode('n1')
  const pod = east.addPod({ name: 'agent-1', node: 'n1' })
  const { log, lines } = capturedLog()
  const { agent, tokenPath } = await node('east', east, pod, log)
  await admin.register('spiffe://example.org/web', `spiffe://example.org/spire/agent/k8s_psat/east/${nodeUid}`)
  await using workload = new Workload(agent.config.socketPath)
  await workload.granted('spiffe://example.org/web', patienceMs)

  const attested = () => serverLog.lines.filter(({ msg }) => msg === 'agent attested').length
  const renewed = () => lines.filter(({ msg }) => msg === 'agent SVID renewed').length
  const until = async (what: string) => {
    const from = [attested(), renewed()] as const
    clock.skip(pastHalfLifeMs)
    await eventually(what, () => attested() > from[0] && renewed() > from[1], patienceMs)
  }
  await until('it shows its token again before its SVID ends')
  await until('and again')
  east.deletePod(pod)
  const successor = east.addPod({ name: 'agent-2', node: 'n1' })
  await writeFile(tokenPath, east.tokenOf(successor))
  await until('the token of that time is shown')
  const [shown] = (await admin.agents.listAgents({})).agents
  t.ok(shown?.selectors.some(({ value }) => value === `agent_pod_uid:${successor.uid}`), 'and selectors are those of that time')

  const { agents: [{ id } = {}] } = await admin.agents.listAgents({})
  await admin.agents.deleteAgent({ id })
  await eventually('an evicted node comes back by itself', async () => (await admin.agents.listAgents({})).agents.length === 1, patienceMs)
  await workload.granted('spiffe://example.org/web', patienceMs)

  east.deletePod(successor)
  clock.skip(pastHalfLifeMs)
  const isRefused = () => lines.some(({ msg }) => msg === 'the agent\'s SVID could not be renewed')
  await eventually('it to be refused', isRefused, patienceMs)
  await workload.granted('spiffe://example.org/web', patienceMs)
  clock.skip(pastHalfLifeMs)
  await t.rejects(agent.ended, { message: /has been invalidated/ }, 'with its pod, the agent ends')
  t.ok(isRefused(), 'not before its SVID does')
})

void t.test('a banned node stays away', async t => {
  const { east, admin, server, node } = await setUp(t)
  const nodeUid = east.addNode('n1')
  const pod = east.addPod({ name: 'agent-1', node: 'n1' })
  const { agent, tokenPath } = await node('east', east, pod)
  await admin.agents.banAgent({ id: idMessage(`spiffe://example.org/spire/agent/k8s_psat/east/${nodeUid}`) })
  await t.rejects(agent.ended, { code: 'agent_banned' })
  const again = startTestAgent(server, { config: { plugins: psatOf('east', tokenPath) } })
  await t.rejects(again, { message: /banned/ }, 'however good its token is')
})

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../fakes/eventually.ts'
import { startServer } from '../fakes/processes.ts'
import { startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'
import { Workload } from '../faults/workload.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'
import { kubeApiserverMissing } from '../kubernetes/build-kube-apiserver.ts'
import { documentedObjects } from '../kubernetes/documented-rules.ts'
import { RealCluster } from '../kubernetes/real-cluster.ts'
import { MovingNode, type NodeProof } from './moving-node.ts'
import { MutualCalls, startParty } from './mutual-calls.ts'
import { Operator, patienceMs } from './operator.ts'

const skip = withoutSpireServer || withoutSpireAgent || kubeApiserverMissing()
t.setTimeout(600_000)
if (skip !== false) t.comment(`takeover of a cluster's nodes: skipped: ${skip}`)

const domain = 'spiffe://example.org'
const [cluster, named] = [`${domain}/cluster`, `${domain}/cluster/named-by-pods`]
const [web, db, batch] = ['web', 'db', 'batch'].map(name => `${domain}/${name}`) as [string, string, string]
const allowed = ['spire:spire-agent', 'spire:assay-agent']
const nobody = { selectors: [{ type: 'unix', value: 'uid:4000000' }] }
const selectors = (...values: readonly string[]) => ({ selectors: values.map(value => ({ type: 'k8s_psat', value })) })

await t.test('nodes of a real cluster move from a real SPIRE server to ours and back', { skip, timeout: 600_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const kubernetes = scope.use(await RealCluster.start())
  await kubernetes.grantServer(documentedObjects('kubernetes.md', 'spire-server-trust')[0]?.['rules'])
  for (const account of ['spire-agent', 'assay-agent']) await kubernetes.addAccount(account)
  const uids = new Map<string, string>()
  for (const name of ['worker-1', 'worker-2', 'worker-3']) uids.set(name, await kubernetes.addNode(name, { zone: 'a' }))

  // One API server under two names: nodes that are called by their own UID, and nodes that are called by their agent's pod.
  const trusted = { service_account_allow_list: allowed, kube_config_file: kubernetes.kubeconfig, allowed_node_label_keys: ['zone'] }
  const attestor = { clusters: { real: trusted, pods: { ...trusted, use_pod_uid_for_agent_id: true } } }
  const spire = scope.use(await startSpireServer({ nodeAttestors: { k8s_psat: attestor } }))
  const ours = scope.use(await startServer({ blocks: { plugins: { NodeAttestor: { k8s_psat: { plugin_data: attestor } } } } }))
  const [there, here] = [scope.use(new Administrator(spire)), scope.use(new Administrator(ours))]

  /** The pod of an agent, with its token. */
  const podOn = async (node: string, account: string, name: 'real' | 'pods'): Promise<NodeProof> => {
    const pod = `${account}-${node}`
    const uid = await kubernetes.addPod(pod, node, account)
    const token_path = join(folder, `token-${pod}`)
    await writeFile(token_path, await kubernetes.token({ account, pod }))
    const known = name === 'pods' ? `pod/${uid}` : uids.get(node)
    return { name: 'k8s_psat', data: { cluster: name, token_path }, path: `/k8s_psat/${name}/${known}` }
  }
  const start = async (worker: string, name: 'real' | 'pods') => {
    const [theirs, own] = [await podOn(worker, 'spire-agent', name), await podOn(worker, 'assay-agent', name)]
    const node = scope.use(await MovingNode.create(join(folder, worker), theirs))
    await node.runSpires(spire, theirs)
    return { node, theirs, own }
  }
  const nodes = [await start('worker-1', 'real'), await start('worker-2', 'real'), await start('worker-3', 'pods')] as const
  const [one, two, three] = nodes

  // Below an alias of the cluster, below a node's own ID, and below an alias of nodes that are called by their pods.
  await there.register(cluster, `${domain}/spire/server`, selectors('cluster:real', 'agent_node_name:worker-1', 'agent_node_label:zone:a'))
  await there.register(web, cluster)
  await there.register(db, two.node.id)
  await there.register(named, `${domain}/spire/server`, selectors('cluster:pods'))
  await there.register(batch, named)
  const parties = [[one, web], [two, db], [three, batch]] as const
  const calls = scope.use(new MutualCalls(await Promise.all(parties.map(([{ node }, id]) => startParty(node.socket, id)))))
  const verified = (when: string) => calls.verify(t, `of all works ${when}`)
  await verified('before')

  const operator = new Operator(spire, ours, join(folder, 'takeover.json'))
  const planned = await operator.status()
  const howOf = (id: string) => planned.agents.find(agent => agent.id === id)
  t.match(howOf(one.node.id), { place: 'there', how: 'attests-alike', obstacles: [] })
  t.match(howOf(three.node.id), { how: 'by-alias', obstacles: [] })

  await t.test('what hangs on SPIRE\'s own pods is told before they move', async t => {
    const made = [
      await there.register(`${domain}/of-pod`, `${domain}/spire/server`, selectors('agent_pod_name:spire-agent-worker-1')),
      await there.register(`${domain}/below-pod`, `${domain}/of-pod`, nobody),
      await there.register(`${domain}/of-account`, `${domain}/spire/server`, selectors('agent_sa:spire-agent', 'agent_node_name:worker-2')),
      await there.register(`${domain}/below-account`, `${domain}/of-account`, nobody)
    ] as const
    const { agents, findings } = await operator.status()
    t.match(agents.find(({ id }) => id === one.node.id)?.obstacles, [new RegExp(`entry ${made[1]} .*below an alias`)])
    t.match(findings.filter(({ code }) => code === 'agent-pod'), [{ about: made[2], message: /agent_sa:spire-agent/ }])
    for (const id of [made[0], made[1]]) await there.unregister(id)
  })
  const ofAccount = (await there.entries.listEntries({})).entries.filter(({ spiffeId }) => spiffeId?.path.endsWith('-account'))

  t.equal((await operator.run('start', '-settle', '5')).code, 0)
  const keeper = operator.keepEqual()
  scope.defer(() => keeper.kill9())
  await operator.untilAgentsMayMove()
  for (const { node, own, theirs } of nodes) {
    const id = await node.runOurs(ours, own)
    t.equal(id, `${domain}/spire/agent${own.path}`)
    t.equal(id === node.id, own.path === theirs.path, 'the node\'s ID stays, a pod\'s does not')
    await operator.untilHere(id)
    await verified(`once ${node.id} is ours`)
  }
  t.match((await operator.agent(two.node.id))?.obstacles, [/below-account/], 'what our agent\'s account has lost')
  t.match((await operator.run('status')).stdout, /is here, and lost: entry/)
  for (const { id } of ofAccount) await there.unregister(id)
  await eventually('it to be settled', async () => (await operator.agent(two.node.id))?.obstacles.length === 0, patienceMs)

  // Its pod is gone for good: SPIRE would wait for it until its SVID ends.
  t.match(await operator.run('finish'), { code: 4, stderr: /k8s_psat\/pods\/pod/ })
  await there.agents.deleteAgent({ id: idMessage(three.node.id) })
  t.match(await operator.run('finish'), { code: 0 })
  t.equal(await keeper.stop(), 0)
  await verified('at our server alone')
  const { agents } = await here.agents.listAgents({})
  t.same(agents.map(({ attestationType, canReattest }) => [attestationType, canReattest]), nodes.map(() => ['k8s_psat', true]))

  t.match(await operator.run('rollback'), { code: 4, stderr: /takeover_agents_moved/ })
  for (const { node, theirs } of nodes) {
    await node.runSpires(spire, theirs)
    await using workload = new Workload(node.socket)
    await eventually('SPIRE\'s agent to serve', () => workload.fetch().then(() => true, () => false), patienceMs)
    await verified(`once ${node.id} is SPIRE's again`)
  }
  await operator.untilNobodyIsHere()
  t.match(await operator.run('rollback'), { code: 0 })
  t.equal((await here.entries.listEntries({})).entries.length, 0)
  await verified('after the way back')
  t.comment(`${calls.handshakes} handshakes`)
})

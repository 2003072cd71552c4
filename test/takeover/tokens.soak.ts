import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { noEnvoy, until } from '../fakes/envoy.ts'
import { eventually } from '../fakes/eventually.ts'
import { startServer } from '../fakes/processes.ts'
import { startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'
import { startLoadedPair } from '../envoy/mesh.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'
import { MovingNode, tokenProof } from './moving-node.ts'
import { Operator, patienceMs } from './operator.ts'

const withoutEnvoy = noEnvoy()
const skip = withoutSpireServer || withoutSpireAgent || withoutEnvoy
t.setTimeout(600_000)
if (skip !== false) t.comment(`takeover of agents that joined by tokens: skipped: ${skip}`)
/** How long the load goes on between two agents that move. */
const betweenMs = Number(process.env['SOAK_SECONDS'] ?? 30) * 100

const alias = 'spiffe://example.org/nodes/callers'
const [web, backend, batch] = ['web', 'backend', 'batch'].map(name => `spiffe://example.org/${name}`) as [string, string, string]

await t.test('agents that joined a real SPIRE server by tokens move to ours and back under load', { skip, timeout: 600_000 }, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
  await using scope = new AsyncDisposableStack()
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  // Half of it is left at least when an agent goes: for the next one to begin, and for Envoys that ask again in up to half a minute.
  const config = { default_x509_svid_ttl: '120s' }
  const spire = scope.use(await startSpireServer({ config }))
  const ours = scope.use(await startServer({ config }))
  const [there, here] = [scope.use(new Administrator(spire)), scope.use(new Administrator(ours))]
  const joined = async (name: string, agentId?: string) => {
    const { value } = await there.agents.createJoinToken({ ttl: 600, ...agentId === undefined ? {} : { agentId: idMessage(agentId) } })
    const node = scope.use(await MovingNode.create(join(folder, name), tokenProof(value)))
    await node.runSpires(spire, tokenProof(value))
    return node
  }
  // Below an agent's own ID, and below an alias that SPIRE made with the token.
  const [callee, caller] = [await joined('callee'), await joined('caller', alias)]
  await there.register(backend, callee.id)
  for (const id of [web, batch]) await there.register(id, alias)
  const foreign = await there.register('spiffe://example.org/container', alias, { selectors: [{ type: 'windows', value: 'user_name:a' }] })

  const { load } = scope.use(await startLoadedPair({ callee: callee.socket, caller: caller.socket }))
  const pause = () => new Promise(resolve => { setTimeout(resolve, betweenMs) })
  await until('the first calls', () => load.certificates.size > 0, patienceMs)

  const operator = new Operator(spire, ours, join(folder, 'takeover.json'))
  const tokenFor = async (node: MovingNode, ...more: readonly string[]) => {
    const { code, stdout, stderr } = await operator.run('token', node.id, ...more)
    t.equal(code, 0, stderr)
    const token = /^Token: (\S+)\n$/.exec(stdout)?.[1] ?? ''
    t.equal(`spiffe://example.org/spire/agent/join_token/${token}`, node.id, 'the token that makes its ID')
    return tokenProof(token)
  }

  t.match(await operator.agent(callee.id), { how: 'same-token', place: 'there', obstacles: [] })
  t.match(await operator.agent(caller.id), { how: 'same-token', obstacles: [/container.*windows/] }, 'what lies below its alias is its own')
  await there.unregister(foreign)
  t.same((await operator.agent(caller.id))?.obstacles, [])
  t.match(await operator.run('token', caller.id), { code: 3, stderr: /takeover_not_settled/ })

  t.equal((await operator.run('start', '-settle', '10')).code, 0)
  const keeper = operator.keepEqual()
  scope.defer(() => keeper.kill9())
  await operator.untilAgentsMayMove()
  for (const node of [caller, callee]) {
    t.equal(await node.runOurs(ours, await tokenFor(node)), node.id, 'the same ID')
    await operator.untilHere(node.id)
    await pause()
  }
  // SPIRE removes the alias that it made with the token; what is served below it here goes on.
  await there.agents.deleteAgent({ id: idMessage(caller.id) })
  await eventually('the plan to say so', async () => (await operator.run('status')).stdout.includes('alias-kept'), patienceMs)
  await pause()
  t.match(await operator.run('finish'), { code: 0 })
  t.equal(await keeper.stop(), 0)
  const { entries } = await here.entries.listEntries({})
  const aliases = entries.filter(({ selectors }) => selectors.some(({ type }) => type === 'spiffe_id'))
  t.equal(aliases.length, 1, 'the new token made no second alias')
  // Longer than an SVID of SPIRE's lives: from here on all is of our server, below alias and ID.
  await until('certificates of ours', () => load.certificates.size > 2, patienceMs)
  const atOurs = load.certificates.size

  t.match(await operator.run('rollback'), { code: 4, stderr: /takeover_agents_moved/ })
  for (const node of [callee, caller]) {
    await node.runSpires(spire, await tokenFor(node, '-at', 'spire'))
    await pause()
  }
  await operator.untilNobodyIsHere()
  t.match(await operator.run('rollback'), { code: 0 })
  t.equal((await here.entries.listEntries({})).entries.length, 0)
  await until('new certificates from SPIRE', () => load.certificates.size > atOurs, patienceMs)
  await pause()
  const { failures, requests } = await load.stop()
  t.same(failures, [], `none of ${requests} requests failed, ${load.certificates.size} certificates`)
  t.comment(`${requests} requests, ${load.certificates.size} certificates`)
})

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { noEnvoy, until } from '../fakes/envoy.ts'
import { eventually } from '../fakes/eventually.ts'
import { startServer } from '../fakes/processes.ts'
import { startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'
import { startLoadedPair } from '../envoy/mesh.ts'
import { Administrator } from '../interop/administrator.ts'
import { MovingNode, tokenProof } from './moving-node.ts'
import { Operator, patienceMs, type Status } from './operator.ts'

const withoutEnvoy = noEnvoy()
const skip = withoutSpireServer || withoutSpireAgent || withoutEnvoy
t.setTimeout(600_000)
if (skip !== false) t.comment(`a takeover whose SPIRE server is gone for good: skipped: ${skip}`)

const [web, backend, batch] = ['web', 'backend', 'batch'].map(name => `spiffe://example.org/${name}`) as [string, string, string]

await t.test('a real SPIRE server burns when one of two agents has moved: the other comes, it ends, no call fails', {
  skip, timeout: 600_000
}, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
  await using scope = new AsyncDisposableStack()
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  // SVIDs of SPIRE's live long enough for a slow machine to move who has them; ours short, so that new ones are seen.
  const spire = scope.use(await startSpireServer({ config: { default_x509_svid_ttl: '10m' } }))
  const ours = scope.use(await startServer({ config: { default_x509_svid_ttl: '60s' } }))
  const [there, here] = [scope.use(new Administrator(spire)), scope.use(new Administrator(ours))]
  const joined = async (name: string) => {
    const { value } = await there.agents.createJoinToken({ ttl: 600 })
    const node = scope.use(await MovingNode.create(join(folder, name), tokenProof(value)))
    await node.runSpires(spire, tokenProof(value))
    return node
  }
  const [callee, caller] = [await joined('callee'), await joined('caller')]
  await there.register(backend, callee.id)
  for (const id of [web, batch]) await there.register(id, caller.id)
  const { load } = scope.use(await startLoadedPair({ callee: callee.socket, caller: caller.socket }))
  await until('the first calls', () => load.certificates.size > 0, patienceMs)

  const operator = new Operator(spire, ours, join(folder, 'takeover.json'))
  const move = async (node: MovingNode, ...more: readonly string[]) => {
    const { code, stdout, stderr } = await operator.run('token', node.id, ...more)
    t.equal(code, 0, stderr)
    t.equal(await node.runOurs(ours, tokenProof(/^Token: (\S+)\n$/.exec(stdout)?.[1] ?? '')), node.id, 'the same ID')
  }
  t.equal((await operator.run('start', '-settle', '10')).code, 0)
  const keeper = operator.keepEqual()
  scope.defer(() => keeper.kill9())
  await operator.untilAgentsMayMove()
  await move(caller)
  await operator.untilHere(caller.id)

  // Its process by SIGKILL, its keys and its database with it.
  await spire[Symbol.asyncDispose]()
  const places = async () => {
    const { stdout } = await operator.run('plan', '-spireGone', '-output', 'json')
    const { agents } = JSON.parse(stdout) as Status
    return [callee, caller].map(({ id }) => agents.find(agent => agent.id === id)?.place)
  }
  t.match(await operator.run('status'), { code: 1, stderr: /server_unreachable/ })
  t.same(await places(), ['there', 'here'])
  t.match(await operator.run('plan', '-spireGone'), { code: 0, stdout: new RegExp(`x renews-no-more ${callee.id}`) })
  t.match(await operator.run('finish', '-spireGone'), { code: 4, stderr: /takeover_agents_left/ })
  t.match(await operator.run('rollback', '-spireGone'), { code: 1, stderr: /takeover_spire_gone/ })
  await move(callee, '-spireGone')
  await eventually('both agents to be here', async () => (await places()).every(place => place === 'here'), patienceMs)
  t.match(await operator.run('finish', '-spireGone'), { code: 0, stdout: /is finished, without SPIRE's server/ })
  await eventually('what kept both sides equal to end by itself', () => Promise.resolve(!keeper.running), patienceMs)
  t.equal(keeper.exitCode, 0, keeper.log)
  t.match(await operator.run('status'), { code: 0, stdout: /Next: nothing/ })
  t.equal((await here.entries.listEntries({})).entries.length, 3)
  const seen = load.certificates.size
  await until('certificates of ours', () => load.certificates.size > seen, patienceMs)
  const { failures, requests } = await load.stop()
  t.same(failures, [], `none of ${requests} requests failed, ${load.certificates.size} certificates`)
})

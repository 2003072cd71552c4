import t from 'tap'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { clusterService } from '../../src/wire/generated/cluster.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { workloadService, type X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { securityHeader, startTestAgent, type TestAgent } from '../fakes/agent.ts'
import { attest, openServerChannel } from '../fakes/agent-client.ts'
import { eventually } from '../fakes/eventually.ts'
import { postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startTestReplicas } from '../fakes/replicas.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'

const skip = postgresMissing()

interface Report {
  readonly passed: boolean
  readonly checks: readonly { readonly name: string, readonly passed: boolean, readonly next?: string }[]
  readonly rounds: readonly {
    readonly address: string, readonly agents: number, readonly moved_ms?: number, readonly laggards: readonly string[]
    readonly chores?: { readonly taken_over_by?: string, readonly after_ms?: number }
  }[]
}

const sockets = (servers: readonly TestServer[]) => servers.flatMap(({ config }) => ['-socketPath', config.socketPath])
const drill = (servers: readonly TestServer[], ...words: string[]) => runAssay(['drill', 'failover', ...sockets(servers), ...words])
const reportOf = (text: string) => JSON.parse(text) as Report
const statusOf = (server: TestServer) => server.admin.client(clusterService).getStatus({})

async function register (server: TestServer, agents: readonly TestAgent[], path: string): Promise<void> {
  await server.admin.client(entryService).batchCreateEntry({ entries: agents.map(agent => ({
    spiffeId: { trustDomain: 'example.org', path }, parentId: { trustDomain: 'example.org', path: agent.path },
    selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }]
  })) })
}

async function serves (agent: TestAgent, path: string): Promise<boolean> {
  const fetched = firstOf(agent.workload.client(workloadService).fetchX509SVID({}, securityHeader)) as Promise<X509SVIDResponse>
  return await fetched.then(({ svids }) => svids.some(({ spiffeId }) => spiffeId === `spiffe://example.org${path}`), () => false)
}

t.test('a failover is rehearsed at running replicas', { skip, timeout: 200_000 }, async t => {
  await using postgres = await startPostgres()
  await using replicas = await startTestReplicas(await postgres.createSchema(), 3)
  const { servers } = replicas
  const [one, two] = servers as [TestServer, TestServer]
  const serverAddresses = servers.map(({ ready }) => `127.0.0.1:${ready.port}`)
  await using first = await startTestAgent(one, { config: { serverAddresses } })
  await using second = await startTestAgent(two, { config: { serverAddresses } })
  const agents = [first, second]
  await register(one, agents, '/web')
  for (const agent of agents) await eventually('the agent to serve', () => serves(agent, '/web'))

  await t.test('--dry-run tells that it would be safe, and changes nothing', async t => {
    const { code, stdout } = await drill(servers, '--dry-run')
    t.equal(code, 0, stdout)
    t.match(stdout, /^ok {6}replicas of one database: 3 replicas behind 3 sockets\nok {6}two live replicas: 3 live\n/)
    t.match(stdout, 'ok      converged: 2 agents are up to date\n')
    t.notMatch(stdout, 'stood aside')
  })

  await t.test('each replica in turn', async t => {
    const { code, stdout, stderr } = await drill(servers, '-output', 'json')
    t.equal(code, 0, stderr)
    const { passed, rounds } = reportOf(stdout)
    t.ok(passed)
    t.same(rounds.map(({ address }) => address), serverAddresses)
    t.ok(rounds.some(({ agents }) => agents > 0), 'some replica had agents')
    for (const { address, agents, moved_ms: movedMs, laggards, chores } of rounds) {
      t.type(movedMs, 'number', `${address}: ${agents} agents acknowledged elsewhere after ${movedMs} ms`)
      t.same(laggards, [])
      if (chores === undefined) continue
      t.ok(serverAddresses.filter(other => other !== address).includes(chores.taken_over_by ?? ''), 'the chores are another\'s')
    }
    t.ok(rounds.some(({ chores }) => chores !== undefined), 'some replica did the chores')
    for (const server of servers) {
      const { replicaId, replicas } = await statusOf(server)
      t.equal(replicas.find(({ id }) => id === replicaId)?.asideMs, 0n, 'it is back')
    }
    await register(two, agents, '/after')
    for (const agent of agents) await eventually('changes to arrive as before', () => serves(agent, '/after'))
  })

  await t.test('while a replica stands aside', async t => {
    const identity = await attest(one)
    await using channel = openServerChannel(one, identity)
    const entries = channel.client(entryService)
    const cluster = one.admin.client(clusterService)
    await cluster.standAside({ durationMs: 60_000 })
    await t.rejects(entries.getAuthorizedEntries({}), { code: 'replica_aside', status: 'UNAVAILABLE' }, 'it refuses agents')
    await t.rejects(attest(one), { code: 'replica_aside' }, 'also those that want to join')
    await t.resolves(one.admin.client(agentService).countAgents({}), 'operators go on')
    await eventually('another drill to be refused', async () => {
      const { code, stderr } = await drill([two], '--dry-run')
      return code === 1 && /on duty: not 127\.0\.0\.1:\d+ \(wait until/.test(stderr)
    }, 40_000)
    await t.rejects(cluster.standAside({ durationMs: 300_001 }), { code: 'argument_invalid' })
    await cluster.standAside({ durationMs: 200 })
    await eventually('it is back by itself', () => entries.getAuthorizedEntries({}).then(() => true, () => false))
    // It asked and went away: nobody shall wait for its next question.
    const { agents } = await one.admin.client(agentService).listAgents({})
    const guest = agents.find(({ id }) => ![first.path, second.path].includes(id?.path ?? ''))
    await one.admin.client(agentService).deleteAgent({ id: guest?.id })
  })

  await t.test('an agent that knows no other server is found out', async t => {
    await using loner = await startTestAgent(one)
    await register(one, [loner], '/lonely')
    await eventually('it to serve', () => serves(loner, '/lonely'))
    const { code, stdout, stderr } = await drill([one], '-duration', '3s')
    t.equal(code, 1)
    t.match(stdout, new RegExp(`agents? did not come up elsewhere: (\\S+, )*spiffe://example.org${loner.path}`), 'others may be late as well')
    t.match(stderr, 'code: drill_failed')
    await register(one, [loner], '/back')
    await eventually('the replica is back, and so is the agent', () => serves(loner, '/back'), 30_000)
  })
})

t.test('a drill that would do harm is refused with the way out', { timeout: 60_000 }, async t => {
  await using server = await startTestServer()
  const { code, stdout, stderr } = await drill([server])
  t.equal(code, 1)
  t.match(stdout, /failed {2}two live replicas: 1 live\n {8}next: start another server on the same PostgreSQL database\n/)
  t.match(stderr, 'code: drill_refused')
  const json = await drill([server], '-output', 'json')
  t.match(reportOf(json.stdout), { passed: false, rounds: [] })
  t.match(JSON.parse(json.stderr), { error: { code: 'drill_refused' } })
  const standAside = server.admin.client(clusterService).standAside({ durationMs: 1_000 })
  await t.rejects(standAside, { code: 'replica_needed' }, 'the server refuses as well')
  t.match(await drill([server], '-duration', '6m'), { code: 2, stderr: /5m at the most/ })
})

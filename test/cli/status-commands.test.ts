import t from 'tap'
import { bind } from '../../src/rpc/server.ts'
import { meshService, type MeshStatusInit } from '../../src/wire/generated/agent-sync.ts'
import { clusterService, type GetStatusResponseInit } from '../../src/wire/generated/cluster.ts'
import { healthService } from '../../src/wire/generated/health.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { eventually } from '../fakes/eventually.ts'
import { startFollowingAgent } from '../fakes/following-agent.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { serveServices } from '../fakes/serve-services.ts'
import { startTestServer } from '../fakes/server.ts'

/** Whatever agent runs on the machine of the test is not asked. */
const environment = { ASSAY_XDS_SOCKET: '' }
const noon = BigInt(Date.parse('2026-01-31T12:00:00Z'))
const head = { epoch: 'e1', number: 42n }
const answering = '1f0c2d3a-0000-4000-8000-000000000001'
const status: GetStatusResponseInit = {
  trustDomain: 'example.org',
  replicaId: answering,
  head,
  replicas: [
    {
      id: answering, name: 'host-a', version: '0.1.0', address: '10.0.0.1:8081', startedAt: noon, seenAt: noon, cursor: head,
      staleMs: 12n, nudged: true, agents: 3
    },
    {
      id: '2f0c2d3a-0000-4000-8000-000000000002', name: 'host-b\n', version: '0.1.0', address: '10.0.0.2:8081', startedAt: noon,
      seenAt: noon, cursor: { epoch: 'e1', number: 40n }, staleMs: 1_500n
    },
    { id: 'c', cursor: { epoch: 'e0', number: 7n }, startedAt: noon, asideMs: 2_500n }
  ],
  leaseHolder: '2f0c2d3a-0000-4000-8000-000000000002',
  leaseExpiresAt: noon,
  authorities: [{ kind: 'x509', authorityId: 'aa', state: 'active', expiresAt: noon / 1000n }],
  sharedAuthorities: true,
  bundleSequence: 5n,
  datastore: 'postgres'
}

void t.test('server status', async t => {
  let warnings: string[] = []
  const socket = await serveServices(t, [bind(clusterService, { getStatus: async () => ({ ...status, warnings }) })])
  const ask = (...words: string[]) => runAssay(['server', 'status', ...words, '-socketPath', socket])
  t.same(await ask(), { code: 0, stderr: '', stdout: `Trust domain : example.org
Datastore    : postgres
Log          : 42 in epoch e1
Bundle       : sequence 5
Authorities  : shared by all replicas
Chores       : 2f0c2d3a (host-b\\x0a) until 2026-01-31 12:00:00 +0000 UTC

REPLICA    NAME        ADDRESS        VERSION  UP SINCE                       REVISION  BEHIND  STALE    CHANGES  AGENTS
1f0c2d3a*  host-a      10.0.0.1:8081  0.1.0    2026-01-31 12:00:00 +0000 UTC  42        0       12ms     nudged   3
2f0c2d3a   host-b\\x0a  10.0.0.2:8081  0.1.0    2026-01-31 12:00:00 +0000 UTC  40        2       1s500ms  polled   0
c                                              2026-01-31 12:00:00 +0000 UTC  7         ?       0s       polled   0 (aside for 2s500ms)
* answers

AUTHORITY  STATE   EXPIRES                        ID
x509       active  2026-01-31 12:00:00 +0000 UTC  aa
` })
  const { replicas } = JSON.parse((await ask('-output', 'json')).stdout) as { replicas: { behind?: string, cursor: { number: string } }[] }
  t.same(replicas.map(({ behind, cursor }) => [behind, cursor.number]), [['0', '42'], ['2', '40'], [undefined, '7']])
  warnings = ['replica 2 polls\u001B[2J']
  t.match(await ask(), { code: 1, stderr: 'Warning: replica 2 polls\\x1b[2J\n' }, 'warnings are worth an exit code, as ill health is')
  t.match(await ask('-output', 'json'), { code: 1, stdout: /"warnings":\["replica 2 polls/, stderr: '' })
})

void t.test('a real server\'s status', async t => {
  await using server = await startTestServer()
  const ask = () => runAssay(['server', 'status', '-output', 'json', '-socketPath', server.config.socketPath])
  const { code, stdout } = await ask()
  t.equal(code, 0)
  t.match(JSON.parse(stdout), {
    trust_domain: 'example.org', datastore: 'sqlite', warnings: [], replica_id: 'sqlite', head: { number: /^[1-9]/ },
    authorities: [{ kind: 'x509', state: 'active' }, { kind: 'jwt', state: 'active' }]
  })
})

void t.test('status: which agent serves which revision', async t => {
  const seenAt = noon
  const socket = await serveServices(t, [bind(clusterService, {
    async * watchConvergence ({ once, entryIds }) {
      t.match({ once, entryIds }, { once: true, entryIds: [] })
      yield { cursor: head, converged: false, consumers: [
        {
          agentId: 'spiffe://example.org/spire/agent/a', state: 'acknowledged', cursor: head, seenAt,
          unservedEntryIds: ['e1', 'e2', 'e3', 'e4'], replicaId: answering
        },
        { agentId: 'spiffe://example.org/spire/agent/b', state: 'waiting', cursor: { epoch: 'e1', number: 40n }, seenAt },
        { agentId: 'spiffe://example.org/spire/agent/c', state: 'absent' }
      ] }
    }
  })])
  const ask = (...words: string[]) => runAssay(['status', ...words, '-socketPath', socket], { environment })
  t.same(await ask(), { code: 0, stderr: '', stdout: `Log: 42; not every live agent is there yet

AGENT                               STATE         REVISION  BEHIND  REPLICA   SEEN                           WITHOUT SVID
spiffe://example.org/spire/agent/a  acknowledged  42        0       1f0c2d3a  2026-01-31 12:00:00 +0000 UTC  e1 e2 e3 and 1 more
spiffe://example.org/spire/agent/b  waiting       40        2       -         2026-01-31 12:00:00 +0000 UTC
spiffe://example.org/spire/agent/c  absent        -         ?       -         never
` })
  t.match(JSON.parse((await ask('-output', 'json')).stdout), {
    converged: false, cursor: { epoch: 'e1', number: '42' }, consumers: [
      { agent_id: /a$/, state: 'acknowledged', behind: '0', unserved_entry_ids: ['e1', 'e2', 'e3', 'e4'] },
      { state: 'waiting', behind: '2', seen_at: `${noon}` }, { state: 'absent', behind: undefined }
    ]
  })
})

void t.test('status: the proxy of this node', async t => {
  const node: MeshStatusInit = {
    proxies: 1, services: 2, endpoints: 1, plaintext: [
      { address: '10.0.0.7', spiffeId: 'spiffe://example.org/web', count: 2n },
      { address: 'fd00::7', spiffeId: 'spiffe://example.org/web', count: 41n }
    ], refused: [{ type: 'Listener', name: 'in/web', reason: 'no such\u001Bthing' }],
    workloads: [{ uid: 'web-1', name: 'web', addresses: ['10.0.0.1', 'fd00::1'], spiffeId: 'spiffe://example.org/web', served: true }],
    envoy: {
      pid: 4711, restarts: 1, lastExit: 'SIGKILL', adminSocket: '/run/admin.sock', state: 'LIVE', version: '1.40.0',
      uptimeSeconds: 3_723n, listeners: 5, listenersWarming: 1, log: ['warning first', 'error \u001B[2Jlast']
    }
  }
  let asked = node
  const socket = await serveServices(t, [bind(clusterService, {
    async * watchConvergence () { yield { cursor: head, converged: true, consumers: [] } }
  })])
  const agent = await serveServices(t, [bind(meshService, { getMeshStatus: async () => asked })])
  const ask = (...words: string[]) => runAssay(['status', ...words, '-xdsSocketPath', agent], { environment })
  t.same(await ask('-socketPath', socket), { code: 0, stderr: 'Warning: the proxy refused Listener in/web: no such\\x1bthing\n', stdout:
`Log: 42; every live agent is there
No attested agents found

This node
Proxies  : 1
Envoy    : 1.40.0 LIVE for 1h2m3s, pid 4711, 1 restart; the last one ended: SIGKILL
Listeners: 5, and 1 that cannot be served yet
Admin    : /run/admin.sock
Services : 2, with 1 endpoint

It wrote last:
  warning first
  error \\x1b[2Jlast

WITHOUT MTLS  TO                        CONNECTIONS
fd00::7       spiffe://example.org/web  41
10.0.0.7      spiffe://example.org/web  2

WORKLOAD  ADDRESSES          SPIFFE ID                 PROXY
web       10.0.0.1, fd00::1  spiffe://example.org/web  serves it
` })
  const { stdout } = await ask('-socketPath', socket, '-output', 'json')
  const { stdout: alone } = await runAssay(['mesh', 'status', '-socketPath', agent, '-output', 'json'])
  const told = JSON.parse(stdout) as { node: object }
  t.match(told, { converged: true, node: { envoy: { uptime_seconds: '3723', log: ['warning first', 'error \u001B[2Jlast'] } } })
  t.same(told.node, JSON.parse(alone), 'in the same shape as mesh status')

  const away = ['-socketPath', '/nowhere/admin.sock']
  t.match(await ask(...away), { code: 1, stdout: /^This node\n/, stderr: /code: server_unreachable/ }, 'without a server the node')
  t.match(JSON.parse((await ask(...away, '-output', 'json')).stdout), { node: { proxies: 1 }, converged: undefined })
  asked = { ...node, refused: [], envoy: { restarts: 3, lastExit: 'code 1', adminSocket: '/run/admin.sock', log: [] } }
  t.match(await ask('-socketPath', socket), { stderr: '', stdout: /\nEnvoy +: does not run; the last one ended: code 1\nAdmin/ })
  const mute = await runAssay(['status', '-socketPath', socket, '-xdsSocketPath', '/nowhere/xds.sock'], { environment })
  t.match(mute, { code: 0, stdout: /^Log: 42/, stderr: /^Warning: of this node's proxy nothing is known: cannot reach the agent at / })
  t.notMatch(mute.stdout, /This node/)
})

void t.test('status of a real server with agents that follow', async t => {
  await using server = await startTestServer()
  const ask = async () => (await runAssay(['status', '-socketPath', server.config.socketPath], { environment })).stdout
  t.match(await ask(), /^Log: \d+; every live agent is there\nNo attested agents found\n$/)
  await using agent = await startFollowingAgent(server)
  await eventually('the acknowledgement has arrived', async () => (await ask()).includes('acknowledged'))
  t.match(await ask(), new RegExp(`\n${agent.spiffeId} +acknowledged +\\d+ +0 +sqlite `))
  agent.mute()
  const spiffeId = { trustDomain: 'example.org', path: '/web' }
  const entry = { spiffeId, parentId: agent.id, selectors: [{ type: 'unix', value: 'uid:1' }] }
  await server.admin.client(entryService).batchCreateEntry({ entries: [entry] })
  t.match(await ask(), /not every live agent[^]* waiting +\d+ +1 /, 'nothing is assumed')
  agent.unmute()
  await eventually('and the next', async () => (await ask()).includes('acknowledged'))
})

void t.test('a server of another make is told apart', async t => {
  const socket = await serveServices(t, [bind(healthService, { check: async () => ({}) })])
  const refused = { code: 1, stderr: /code: cluster_api_missing; a retry does not help/ }
  t.match(await runAssay(['server', 'status', '-socketPath', socket]), refused)
  t.match(await runAssay(['status', '-socketPath', socket], { environment }), refused)
})

import { mkdtemp, rm } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { agentNames } from '../../src/agent/spire-agent-metrics.ts'
import type { SpireNames } from '../../src/rpc/spire-metrics.ts'
import { serverNames } from '../../src/server/spire-server-names.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { startTestServer } from '../fakes/server.ts'
import { exposedMetrics, type ExposedMetric, makeTypicalCalls } from '../fakes/typical-calls.ts'

/** Of what a day without trouble does not do: renewals, pruning, partners, nested servers, changes of nodes. */
const notToday = {
  server: [
    'bundle_manager_fetch_federated_bundle', 'bundle_manager_update_federated_bundle', 'ca_manager_bundle_prune',
    'ca_manager_bundle_pruned', 'server_ca_sign_x509_ca_svid', 'registration_entry_manager_prune',
    'node_manager_prune', 'datastore_bundle_create', 'datastore_bundle_delete', 'datastore_bundle_set', 'datastore_bundle_update',
    'datastore_ca_journal_prune', 'datastore_federation_relationship_create', 'datastore_federation_relationship_delete',
    'datastore_federation_relationship_fetch', 'datastore_federation_relationship_update', 'datastore_join_token_prune',
    'datastore_node_delete', 'datastore_node_prune', 'datastore_registration_entry_prune'
  ],
  agent: ['agent_svid_rotate', 'node_attest', 'workload_api_rate_limit_exceeded']
}

void t.test('server and agent tell what happens under SPIRE\'s names (spire-surface §10)', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-names-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [serverPort, agentPort] = [await freePort(), await freePort()]
  await using server = await startTestServer({ config: { prometheus: { host: '127.0.0.1', port: serverPort } } })
  const adminSocketPath = join(folder, 'admin.sock')
  await using agent = await startTestAgent(server, { config: { prometheus: { host: '127.0.0.1', port: agentPort }, adminSocketPath } })
  const trustDomain = 'example.org'
  await makeTypicalCalls({
    trustDomain, adminSocket: server.config.socketPath, socket: agent.config.socketPath, agentAdminSocket: adminSocketPath,
    agentId: `spiffe://${trustDomain}${agent.path}`
  })

  const shown = (port: number) => fetch(`http://127.0.0.1:${port}/metrics`).then(answer => answer.text())
  const shows = (port: number, line: RegExp) => eventually(String(line), async () => line.test(await shown(port)))
  const host = `host="${hostname()}"`
  const has = (port: number, name: string, value: string, labels = '') =>
    shows(port, new RegExp(`^${name}\\{${labels === '' ? '' : `${labels},`}${host}\\} ${value}$`, 'm'))
  await has(serverPort, 'spire_server_rpc_agent_v1_agent_count_agents', '1', 'status="OK"')
  await has(serverPort, 'spire_server_rpc_agent_v1_agent_attest_agent_elapsed_time_count', '1', 'status="OK"')
  await has(serverPort, 'spire_server_started', '1', 'version="\\w+",trust_domain_id="example_org"')
  await has(serverPort, 'spire_server_ca_manager_x509_ca_activate', '2')
  await has(serverPort, 'spire_server_ca_manager_x509_ca_prepare', '2', 'status="OK"')
  await has(serverPort, 'spire_server_datastore_registration_entry_create', '1', 'status="OK"')
  await has(serverPort, 'spire_server_manager_x509_ca_rotate_ttl', '8\\d{4}(\\.\\d+)?', 'trust_domain_id="example_org"')
  await has(agentPort, 'spire_agent_delegated_identity_api_connection', '1')
  await has(agentPort, 'spire_agent_delegated_identity_api_connections', '0')
  await has(agentPort, 'spire_agent_rpc_delegated_identity_subscribe_\\w+', '1', 'status="PermissionDenied"')
  await has(agentPort, 'spire_agent_lru_cache_entry_add', '2')
  await has(agentPort, 'spire_agent_lru_cache_entry_remove', '1')
  await has(agentPort, 'spire_agent_jwt_svid_cache_size', '\\d')

  for (const [side, names, port] of [['server', serverNames, serverPort], ['agent', agentNames, agentPort]] as const) {
    const without = new Set(notToday[side])
    const expected = expectedOf(names).filter(([name]) => !without.has(name.replace(/_elapsed_time$/, '')))
    let exposed: Awaited<ReturnType<typeof exposedMetrics>> = new Map()
    const missing = () => expected.map(([name]) => name).filter(name => !exposed.has(name))
    await eventually(() => `${side}: ${missing().join()}`, async () => {
      exposed = await exposedMetrics(port, `spire_${side}_`)
      return missing().length === 0
    })
    t.strictSame([...exposed].filter(([name]) => !/^(rpc|rateLimit)_/.test(name)).toSorted(byName), expected.toSorted(byName), side)
  }
})

/** What the table promises of each name. */
function expectedOf (names: SpireNames): ReadonlyArray<readonly [string, ExposedMetric]> {
  return Object.entries(names).flatMap(([key, { kind, labels = [] }]) => {
    const name = key.replaceAll('.', '_')
    const all = (...more: string[]) => [...labels, 'host', ...more].toSorted()
    if (kind === 'call') {
      const called = { labels: all('status') }
      return [[name, { kind: 'counter', ...called }], [`${name}_elapsed_time`, { kind: 'summary', ...called }]] as const
    }
    return [[name, { kind: kind === 'sample' ? 'summary' : kind, labels: all() }]] as const
  })
}

function byName ([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number { return a < b ? -1 : 1 }

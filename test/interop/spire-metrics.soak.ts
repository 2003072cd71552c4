import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { agentNames } from '../../src/agent/spire-agent-metrics.ts'
import type { SpireNames } from '../../src/rpc/spire-metrics.ts'
import { serverNames } from '../../src/server/spire-server-names.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { startAgent, startServer } from '../fakes/processes.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'
import { exposedMetrics, type ExposedMetric, makeTypicalCalls } from '../fakes/typical-calls.ts'

t.setTimeout(300_000)

const docs = join(import.meta.dirname, '../../docs/metrics.md')
const trustDomain = 'example.org'
type Exposed = ReadonlyMap<string, ExposedMetric>
type BySide = { readonly server: Exposed, readonly agent: Exposed }

void t.test('the same calls at SPIRE and here show the same metrics, but for those that docs/metrics.md says are not here', {
  skip: withoutSpireServer || withoutSpireAgent
}, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-names-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [theirs, ours] = [await ofSpire(folder), await ofAssay(folder)]
  const absent = await saidToBeAbsent()
  for (const [side, names] of [['server', serverNames], ['agent', agentNames]] as const) {
    const known: SpireNames = names
    t.ok(theirs[side].size > 20, `SPIRE's ${side} shows its metrics`)
    for (const [name, metric] of theirs[side]) {
      if (absent.some(pattern => pattern.test(`spire_${side}_${name}`))) continue
      t.strictSame(ours[side].get(name), metric, `spire_${side}_${name}`)
    }
    for (const name of Object.keys(known)) {
      t.notOk(absent.some(pattern => pattern.test(`spire_${side}_${name}`)), `${name} is not said to be absent`)
    }
  }
})

async function ofSpire (folder: string): Promise<BySide> {
  const [serverPort, agentPort, admin] = [await freePort(), await freePort(), join(folder, 'theirs.sock')]
  await using server = await startSpireServer({ prometheusPort: serverPort })
  await using agent = await startSpireAgent(server, undefined, { prometheusPort: agentPort, config: { admin_socket_path: admin } })
  await makeTypicalCalls({ trustDomain, adminSocket: server.adminSocket, socket: agent.socket, agentAdminSocket: admin, agentId: agent.id })
  return await bothAt(serverPort, agentPort)
}

async function ofAssay (folder: string): Promise<BySide> {
  const [serverPort, agentPort, admin] = [await freePort(), await freePort(), join(folder, 'ours.sock')]
  const telemetry = (port: number) => ({ telemetry: { Prometheus: { host: '127.0.0.1', port } } })
  await using server = await startServer({ blocks: telemetry(serverPort) })
  await using agent = await startAgent({ server, config: { admin_socket_path: admin }, blocks: telemetry(agentPort) })
  await makeTypicalCalls({ trustDomain, adminSocket: server.adminSocket, socket: agent.socket, agentAdminSocket: admin, agentId: agent.id })
  return await bothAt(serverPort, agentPort)
}

/** Once the entry that was removed last is gone at the agent too. */
async function bothAt (serverPort: number, agentPort: number): Promise<BySide> {
  await eventually('the agent has heard of the removal', async () =>
    (await exposedMetrics(agentPort, 'spire_agent_')).has('lru_cache_entry_remove'))
  return { server: await exposedMetrics(serverPort, 'spire_server_'), agent: await exposedMetrics(agentPort, 'spire_agent_') }
}

/** Names in the first column of the table of what is not here; `*` is any end. */
async function saidToBeAbsent (): Promise<readonly RegExp[]> {
  const section = (await readFile(docs, 'utf8')).split('\n## ').find(text => text.startsWith('SPIRE\'s names that are not here')) ?? ''
  const cells = section.split('\n').filter(line => line.startsWith('| `')).map(line => line.split(' | ')[0] ?? '')
  return cells.flatMap(cell => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = '']) =>
    new RegExp(`^${name.replace('*', '\\w*')}(_elapsed_time)?$`)))
}

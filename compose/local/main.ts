// The topology of compose.yaml as plain processes on this machine.
// usage: node compose/local/main.ts [--once] [--keep-logs]     --once: end after the last step instead of staying up
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { findEnvoy } from '../../src/cli/demo/find-envoy.ts'
import { formatFacts } from '../../src/cli/demo/format-facts.ts'
import { callBoth, raiseMesh, showRotation, type Mesh } from '../../src/cli/demo/mesh.ts'
import { openNetwork } from '../../src/cli/demo/network.ts'
import { StepFailed, Steps } from '../../src/cli/demo/steps.ts'
import { Topology, type RunningServer } from '../../src/cli/demo/topology.ts'
import { until } from '../../src/cli/demo/until.ts'
import { openWorkspace, type Workspace } from '../../src/cli/demo/workspace.ts'
import { openTerminal, type Terminal } from '../../src/cli/terminal.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { clusterService } from '../../src/wire/generated/cluster.ts'
import { findPostgres, PostgresPair } from './postgres-pair.ts'

const { values } = parseArgs({ options: { once: { type: 'boolean', default: false }, 'keep-logs': { type: 'boolean', default: false } } })
const reportTimeoutMs = 20_000
const names = ['server-1', 'server-2', 'server-3'] as const
type Servers = readonly [RunningServer, RunningServer, RunningServer]

process.exitCode = await main(openTerminal())

/** @returns the exit code: 1 when a step failed, 130 when a signal came first */
async function main (terminal: Terminal): Promise<number> {
  const steps = new Steps(systemClock, terminal.out)
  const workspace = await openWorkspace()
  workspace.keepLogs = values['keep-logs']
  try {
    await play(steps, workspace, terminal)
    return 0
  } catch (error) {
    if (terminal.signal.aborted) return values.once ? 130 : 0
    workspace.keepLogs = true
    const step = error instanceof StepFailed ? error.step : 'the topology'
    terminal.err(`failed: ${step}: ${(error as Error).message}\n  logs: ${workspace.logs}\n`)
    return 1
  } finally {
    await workspace[Symbol.asyncDispose]()
  }
}

async function play (steps: Steps, workspace: Workspace, { environment, signal, out }: Terminal): Promise<void> {
  await using scope = new AsyncDisposableStack()
  const envoy = await steps.run('looking for Envoy', () => findEnvoy(environment['PATH']))
  const programs = await steps.run('looking for PostgreSQL', () => findPostgres(environment['PATH']))
  const network = scope.use(await openNetwork({ namespaces: false, folder: workspace.logs }))
  const postgres = scope.use(await steps.run('starting PostgreSQL: a primary and a streaming replica', () =>
    PostgresPair.start({ programs, workspace, signal })))
  const topology = scope.use(new Topology({ workspace, network, envoy: envoy.file, signal }))
  const lastResort = () => {
    for (const process of [...topology.processes, ...postgres.processes]) process.kill()
    workspace.removeNow()
  }
  process.on('exit', lastResort)
  scope.defer(() => { process.off('exit', lastResort) })

  const servers = await steps.run('starting three servers, which share the database, a root and a JWT key', () =>
    startServers(topology, network.nodes[0], postgres.primaryUrl, workspace))
  const mesh = await raiseMesh({ topology, nodes: network.nodes, servers, envoyVersion: envoy.version, steps })
  const facts = await steps.run('calling the backend as web and as batch', () => callBoth(mesh, signal))
  out(`\n${formatFacts(...facts)}\n`)
  const entries = await steps.run('asking the database\'s replica what it has', () => until('the entries to be replicated', async () => {
    const count = await postgres.replicated()
    return count >= 3 ? count : undefined
  }, reportTimeoutMs, signal))
  steps.say(`  ${entries} entries`)
  await steps.run('killing a server that an agent follows, under a loop of requests', () => killOne(mesh, servers, steps, signal))
  await steps.run('calling once more', () => callBoth(mesh, signal))
  if (values.once) return steps.say('done; stopping everything')
  steps.say('everything stays up until Ctrl-C')
  out(`\n  call the backend as web:  curl http://${mesh.webAddress}/\n`)
  for (const { process, adminSocket } of servers) if (process.running) out(`  an admin socket:          ${adminSocket}\n`)
  await new Promise<void>(resolve => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
  steps.say('stopping everything')
}

async function startServers (
  topology: Topology, node: Parameters<Topology['startServer']>[0], databaseUrl: string, { folder }: Workspace
): Promise<Servers> {
  const keyFile = join(folder, 'key-encryption-key')
  await writeFile(keyFile, randomBytes(32).toString('hex'), { mode: 0o600 })
  const blocks = { plugins: { KeyManager: [{ database: { plugin_data: { key_encryption_key_file: keyFile } } }] } }
  return await Promise.all(names.map(name => topology.startServer(node, { name, server: { datastore_url: databaseUrl }, blocks }))) as
    unknown as Servers
}

async function killOne (mesh: Mesh, servers: Servers, steps: Steps, signal: AbortSignal): Promise<void> {
  const victim = await until('an agent to be reported at a server', () => followed(servers), reportTimeoutMs, signal)
  await showRotation(mesh, steps, signal, async () => {
    victim.process.kill()
    steps.say(`  killed ${victim.process.name}`)
  })
}

/** A server that an agent has its stream to; `undefined` while none has reported one. */
async function followed (servers: Servers): Promise<RunningServer | undefined> {
  await using channel = openUnixChannel(servers[0].adminSocket)
  const { replicas } = await channel.client(clusterService).getStatus({}, { timeoutMs: 5_000 })
  const addresses = new Set(replicas.filter(({ agents }) => agents > 0).map(({ address }) => address))
  return servers.find(({ host, port }) => addresses.has(`${host}:${port}`))
}

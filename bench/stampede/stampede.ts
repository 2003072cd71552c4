import { setTimeout as sleep } from 'node:timers/promises'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { monotonicMs, SimulatedAgents } from '../../test/fakes/simulated-agents.ts'
import { startServer, type RunningServer } from '../../test/fakes/processes.ts'
import { withCallers } from '../measure/callers.ts'
import { cpuMsOf, residentMibOf } from '../measure/process-usage.ts'
import { percentile } from '../measure/statistics.ts'
import type { Row, Section, SuiteOptions } from '../suite.ts'

/** That all agents have, and sign for, besides the one that gives them their common ID. */
const entryCount = 4
const fleet = { trustDomain: 'example.org', path: '/fleet' }

export interface Stampede {
  /** Milliseconds from their return, ascending: how long each agent waited until it was renewed and had all its SVIDs. */
  readonly served: readonly number[]
  /** What agents had to try again, and how often. */
  readonly warnings: ReadonlyMap<string, number>
  readonly cpuMs: number
  readonly rssBefore: number
  readonly rssMax: number
}

/** 5,000 agents return to one replica after an outage. */
export async function runStampede ({ quick, progress }: SuiteOptions): Promise<readonly Section[]> {
  const count = quick ? 20 : 5000
  const { served, warnings, cpuMs, rssBefore, rssMax } = await stampede(count, progress)
  const row = (what: string, unit: string, value: number): Row => ({ what, unit, values: [value] })
  const retried = [...warnings].toSorted(([, a], [, b]) => b - a).map(([what, times]) => `${what}: ${times}`)
  return [{
    title: `${count.toLocaleString('en-US')} agents return to one replica at once`,
    rows: [
      row('agents served', 'of all', served.length),
      row('time to served, p50', 'ms', percentile(served, 50)),
      row('time to served, p99', 'ms', percentile(served, 99)),
      row('time to served, max', 'ms', Math.max(...served)),
      row('server CPU per agent', 'ms', cpuMs / count),
      row('server RSS before', 'MiB', rssBefore),
      row('server RSS, max', 'MiB', rssMax)
    ],
    notes: [
      `What agents had to try again: ${retried.join('; ') || 'nothing'} (\`server_overloaded\`: at the time the server named).`,
      'On SQLite. Agents are simulated by four processes that share the cores with the server.'
    ]
  }]
}

/**
 * All agents lose their server at once and find it again in the same moment, each with its own SVID due for renewal and none of its
 * workloads': connect, TLS, the whole state, renewal, TLS again, and five signatures each.
 */
export async function stampede (count: number, progress: SuiteOptions['progress']): Promise<Stampede> {
  await using scope = new AsyncDisposableStack()
  const before = scope.use(await startServer())
  const tokens = await prepare(before, count)
  progress(`${count} agents join`)
  const agents = scope.use(await SimulatedAgents.start({
    addresses: [before.address], trustDomain: 'example.org', tokens, processes: 4
  }))
  progress('the server goes, and comes back')
  await before.kill9()
  const server = scope.use(await startServer({ folder: before.folder, port: before.port }))
  const [rssBefore, cpuBefore] = [residentMibOf(server.pid), cpuMsOf(server.pid)]
  let rssMax = rssBefore
  const watching = new AbortController()
  const watched = watch(() => { rssMax = Math.max(rssMax, residentMibOf(server.pid)) }, watching.signal)
  progress('all come back')
  const begin = monotonicMs()
  try {
    const { at, warnings } = await agents.run({ renewalDue: true })
    return { served: at.map(time => time - begin), warnings, cpuMs: cpuMsOf(server.pid) - cpuBefore, rssBefore, rssMax }
  } finally {
    watching.abort()
    await watched
    // As an operator stops it: killed, it could not write its profile.
    await server.stop()
  }
}

/** @returns a join token for each agent */
async function prepare (server: RunningServer, count: number): Promise<string[]> {
  await using admin = openUnixChannel(server.adminSocket)
  const { results } = await admin.client(entryService).batchCreateEntry({
    entries: Array.from({ length: entryCount }, (_, index) => ({
      spiffeId: { trustDomain: 'example.org', path: `/workload/${index}` }, parentId: fleet, selectors: [{ type: 'unix', value: 'uid:1' }]
    }))
  })
  if (results.some(({ status }) => status?.code !== 0)) throw new Error('the entries were not created')
  const tokens: string[] = []
  await withCallers(8, count, async () => {
    tokens.push((await admin.client(agentService).createJoinToken({ ttl: 3600, agentId: fleet })).value)
  })
  return tokens
}

async function watch (look: () => void, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    look()
    await sleep(50)
  }
}

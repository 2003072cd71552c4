import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { AgentFeed } from '../../src/server/push/agent-feed.ts'
import type { SpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { openPushReplica } from '../../test/fakes/push.ts'
import { agentIdOf, fleetAlias, fleetId, nodeAliasOf, trustDomain, workloadOf, type Population } from './population.ts'

export interface Memory { readonly heapMib: number, readonly rssMib: number }
export interface Cost { readonly cpuMs: number, readonly wallMs: number }

export interface ReplicaFigures {
  readonly idle: Memory
  readonly loaded: Memory
  readonly streaming: Memory
  /** With what is remembered of the changes. */
  readonly changed: Memory
  readonly loadMs: number
  readonly loadCpuMs: number
  readonly changes: Readonly<Record<'one' | 'nodeAlias' | 'shared' | 'aliasKept' | 'aliasMoved' | 'bundle' | 'serial', readonly Cost[]>>
}

const [url = '', text = '{}'] = process.argv.slice(2)
const population = JSON.parse(text) as Population
const rounds = 7

await using store = await openDatastore(url, { clock: systemClock, log: silentLogger })
const idle = memory()
const started = begin()
const { replica, feeds } = await openPushReplica(store, trustDomain, systemClock)
const load = started()
const loaded = memory()
const open = new Map<SpiffeId, AgentFeed>()
for (let node = 0; node < population.agents; node++) {
  const id = agentIdOf(node)
  const feed = await feeds.open(id, undefined)
  feed.next()
  open.set(id, feed)
}
const streaming = memory()
const woken = new Set<SpiffeId>()
replica.onChange(({ touched, bundles }) => {
  for (const id of bundles.size > 0 ? open.keys() : touched.keys()) woken.add(id)
})

const nodeAlias = nodeAliasOf(17)
let made = 0
const { entries, agents, bundles } = store
const changes: ReplicaFigures['changes'] = {
  one: await change(1, () => entries.updateMany([{ id: workloadOf(17, 3).id, change: { hint: `${++made}` } }]), 20),
  nodeAlias: await change(1, () => entries.updateMany([
    { id: nodeAlias.id, change: { spiffeId: ++made % 2 === 0 ? nodeAlias.spiffeId : fleetId } }
  ]), 20),
  shared: await change(population.agents, () => entries.updateMany([{ id: 'shared-3', change: { hint: `${++made}` } }])),
  aliasKept: await change(0, () => entries.updateMany([{ id: fleetAlias, change: { hint: `${++made}` } }])),
  aliasMoved: await change(population.agents, () => entries.updateMany([
    { id: fleetAlias, change: { selectors: [{ type: 'k8s_psat', value: `cluster:${++made % 2 === 0 ? 'production' : 'none'}` }] } }
  ])),
  bundle: await change(population.agents, () =>
    bundles.set({ trustDomain, x509Authorities: [], jwtAuthorities: [], sequenceNumber: BigInt(1_000 + ++made) })),
  serial: await change(0, () => agents.setNewSerial(agentIdOf(17), (++made).toString(16), new Date('2100-01-01T00:00:00Z')), 20)
}
const figures: ReplicaFigures = {
  idle, loaded, streaming, changed: memory(), loadMs: load.wallMs, loadCpuMs: load.cpuMs, changes
}
process.stdout.write(JSON.stringify(figures))

/** Writes, lets the replica follow, and asks every stream that was woken what it would tell. The first round is not counted. */
async function change (touched: number, write: () => Promise<unknown>, times = 1): Promise<Cost[]> {
  const costs: Cost[] = []
  for (let round = 0; round <= rounds; round++) {
    const sum = { cpuMs: 0, wallMs: 0 }
    for (let n = 0; n < times; n++) {
      await write()
      woken.clear()
      const end = begin()
      await replica.catchUp()
      for (const id of woken) open.get(id)?.next()
      const { cpuMs, wallMs } = end()
      sum.cpuMs += cpuMs
      sum.wallMs += wallMs
      if (woken.size !== touched) throw new Error(`${woken.size} agents were touched instead of ${touched}`)
    }
    if (round > 0) costs.push({ cpuMs: sum.cpuMs / times, wallMs: sum.wallMs / times })
  }
  return costs
}

function begin (): () => Cost {
  const [cpu, wall] = [process.cpuUsage(), performance.now()]
  return () => {
    const { user, system } = process.cpuUsage(cpu)
    return { cpuMs: (user + system) / 1000, wallMs: performance.now() - wall }
  }
}

function memory (): Memory {
  for (let n = 0; n < 3; n++) globalThis.gc?.()
  const { heapUsed, rss } = process.memoryUsage()
  return { heapMib: heapUsed / 2 ** 20, rssMib: rss / 2 ** 20 }
}

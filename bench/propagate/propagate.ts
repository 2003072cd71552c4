import { setTimeout as sleep } from 'node:timers/promises'
import type { EntryInit, SPIFFEIDInit } from '../../src/wire/generated/types.ts'
import { Envoy, findEnvoy } from '../../test/fakes/envoy.ts'
import { postgresMissing } from '../../test/fakes/postgres.ts'
import { startAgent } from '../../test/fakes/processes.ts'
import { monotonicMs, SimulatedAgents } from '../../test/fakes/simulated-agents.ts'
import { serverConfig } from '../../test/sds/mtls-config.ts'
import { cpuMsOf } from '../measure/process-usage.ts'
import { ReplicaBed } from '../measure/replica-bed.ts'
import { percentile } from '../measure/statistics.ts'
import type { Range, Row, Section, SuiteOptions } from '../suite.ts'
import { EnvoyObserver, WorkloadObserver } from './observers.ts'

interface Plan {
  readonly agents: number
  /** Entries created, changed and removed. */
  readonly rounds: number
  readonly kills: number
  /** Changes that touch every agent. */
  readonly floods: number
  readonly idleMs: number
}

type Kind = 'created' | 'changed' | 'removed'

/** Milliseconds from the administrator's call. */
interface Delay { readonly workload: number, readonly envoy: number }

const trustDomain = 'example.org'
const webId = 'spiffe://example.org/web'
/** An ID that all agents have beside their own. */
const fleet = { trustDomain, path: '/fleet' }
const spire: Readonly<Record<Kind, Range>> = { created: [4900, 4900], changed: [7200, 7200], removed: [5600, 5600] }
const kinds = ['created', 'changed', 'removed'] as const

/**
 * From an administrator's call at one replica to an open workload stream and to a real Envoy, both at one real agent that may follow
 * the other replica; beside it simulated agents follow, sign and acknowledge.
 */
export async function runPropagate ({ quick, progress }: SuiteOptions): Promise<readonly Section[]> {
  const missing = postgresMissing() || (findEnvoy() === undefined && 'there is no Envoy: npm run setup')
  if (missing !== false) throw new Error(`not measured: ${missing}`)
  const plans: readonly Plan[] = quick
    ? [{ agents: 1, rounds: 2, kills: 0, floods: 0, idleMs: 500 }, { agents: 6, rounds: 2, kills: 1, floods: 1, idleMs: 500 }]
    : [1, 100, 1000].map(agents => ({ agents, rounds: 60, kills: 8, floods: agents === 1 ? 0 : 5, idleMs: 60_000 }))
  const sections: Section[] = []
  let idleOfOne: number | undefined
  for (const plan of plans) {
    const measured = await measure(plan, progress)
    idleOfOne ??= measured.idleMsPerMinute
    sections.push(sectionOf(plan, measured, idleOfOne))
  }
  return sections
}

interface Measured {
  readonly delays: Readonly<Record<Kind, Delay[]>>
  readonly killed: Delay[]
  readonly floods: { readonly first: number, readonly last: number }[]
  /** Server CPU of both replicas. */
  readonly idleMsPerMinute: number
}

async function measure ({ agents, rounds, kills, floods, idleMs }: Plan, progress: SuiteOptions['progress']): Promise<Measured> {
  await using bed = await ReplicaBed.open(2)
  await using agent = await startAgent({
    server: bed.servers[0] as ReplicaBed['servers'][number],
    config: { server_address: undefined, server_port: undefined, server_addresses: bed.addresses }
  })
  progress(`${agents} agents join`)
  await using others = await SimulatedAgents.start({
    addresses: bed.addresses, trustDomain, tokens: await bed.joinTokens(agents - 1, fleet), processes: 2
  })
  const parentId = idOf(agent.id)
  await create(bed, [
    // The workload's stream lives on when the other entry goes.
    entryOf('/always', parentId),
    ...agents > 1 ? [entryOf('/one-for-all', fleet)] : []
  ])
  if (agents > 1) await others.run()
  using workload = await WorkloadObserver.open(agent.socket)
  await using envoy = await Envoy.start(serverConfig({ agentSocket: agent.socket, api: 'DELTA_GRPC', certificate: webId }))
  const proxy = new EnvoyObserver(envoy, webId)
  const observed = { workload, proxy }

  progress(`${agents} agents: idle for ${idleMs / 1000} s`)
  const idleMsPerMinute = await idle(bed, idleMs)

  const delays: Record<Kind, Delay[]> = { created: [], changed: [], removed: [] }
  for (let round = 0; round < rounds; round++) {
    if (round % 25 === 0) progress(`${agents} agents: round ${round + 1} of ${rounds}`)
    const step = await webSteps(bed, parentId, round % 2)
    for (const kind of kinds) delays[kind].push(await step(kind, observed))
  }
  const flooded: Measured['floods'] = []
  for (let round = 0; round < floods; round++) {
    progress(`${agents} agents: an entry of all, ${round + 1} of ${floods}`)
    flooded.push(await flood(bed, others, round))
  }
  const killed: Delay[] = []
  for (let round = 0; round < kills; round++) {
    progress(`${agents} agents: kill ${round + 1} of ${kills}`)
    killed.push(await killing(bed, parentId, observed, round % 2))
  }
  return { delays, killed, floods: flooded, idleMsPerMinute }
}

async function idle (bed: ReplicaBed, ms: number): Promise<number> {
  const cpu = () => bed.servers.reduce((sum, { pid }) => sum + cpuMsOf(pid), 0)
  // What joining leaves behind is done by then.
  await sleep(Math.min(ms, 10_000))
  const [before, begin] = [cpu(), performance.now()]
  await sleep(ms)
  return (cpu() - before) * 60_000 / (performance.now() - begin)
}

/** One entry's life, told to one replica, measured step by step. */
async function webSteps (bed: ReplicaBed, parentId: SPIFFEIDInit, replica: number) {
  let id = ''
  const change: Readonly<Record<Kind, () => Promise<void>>> = {
    created: async () => { [id] = await create(bed, [entryOf('/web', parentId)], replica) as [string] },
    changed: async () => await updateDnsNames(bed, id, replica),
    removed: async () => await remove(bed, id, replica)
  }
  return async (kind: Kind, { workload, proxy }: { workload: WorkloadObserver, proxy: EnvoyObserver }): Promise<Delay> => {
    const before = workload.svidOf(webId)
    const updates = await proxy.updates()
    const begin = Date.now()
    const seen = Promise.all([
      workload.until(() => workload.svidOf(webId) !== before && (workload.svidOf(webId) === undefined) === (kind === 'removed')),
      proxy.updateAfter(updates)
    ])
    const [[inWorkload, inEnvoy]] = await Promise.all([seen, change[kind]()])
    return { workload: inWorkload - begin, envoy: inEnvoy - begin }
  }
}

/** An entry that every simulated agent gets, and signs for: from the call to the first and to the last that has its SVID. */
async function flood (bed: ReplicaBed, others: SimulatedAgents, round: number): Promise<{ first: number, last: number }> {
  const { reached } = await others.expect(`spiffe://example.org/flood-${round}`)
  const begin = monotonicMs()
  const [id] = await create(bed, [entryOf(`/flood-${round}`, fleet)], round % 2)
  const { at } = await reached
  await remove(bed, id as string, 0)
  return { first: (at[0] ?? Number.NaN) - begin, last: (at.at(-1) ?? Number.NaN) - begin }
}

/** One replica is killed, and in the same moment the other one is told of a new entry. */
async function killing (
  bed: ReplicaBed, parentId: SPIFFEIDInit, observed: { workload: WorkloadObserver, proxy: EnvoyObserver }, replica: number
): Promise<Delay> {
  const step = await webSteps(bed, parentId, 1 - replica)
  const dead = bed.kill9(replica)
  const delay = await step('created', observed)
  await dead
  await step('removed', observed)
  await bed.restart(replica)
  return delay
}

function sectionOf ({ agents, idleMs }: Plan, { delays, killed, floods, idleMsPerMinute }: Measured, idleOfOne: number): Section {
  const budget = (limit: number): Pick<Row, 'budget'> => ({ budget: [limit, limit] })
  const spread = (what: string, values: readonly number[], budgets: boolean, median: Partial<Row> = {}): Row[] => [
    { what: `${what}, p50`, unit: 'ms', values: [percentile(values, 50)], ...median, ...budgets ? budget(50) : {} },
    { what: `${what}, p99`, unit: 'ms', values: [percentile(values, 99)], ...budgets ? budget(250) : {} },
    { what: `${what}, max`, unit: 'ms', values: [Math.max(...values)] }
  ]
  const perAgent = (idleMsPerMinute - idleOfOne) / Math.max(1, agents - 1)
  return {
    title: `${agents === 1 ? '1 agent' : `${agents.toLocaleString('en-US')} agents`} on 2 replicas`,
    rows: [
      ...kinds.flatMap(kind => [
        ...spread(`${kind} → workload stream`, delays[kind].map(({ workload }) => workload), true, { spire: spire[kind] }),
        ...spread(`${kind} → Envoy`, delays[kind].map(({ envoy }) => envoy), true)
      ]),
      ...floods.length === 0 ? [] : [
        { what: 'created for all agents → first agent has its SVID', unit: 'ms', values: floods.map(({ first }) => first) },
        { what: 'created for all agents → last agent has its SVID', unit: 'ms', values: floods.map(({ last }) => last) }
      ],
      ...killed.length === 0 ? [] : [
        ...spread('created as a replica is killed → workload stream', killed.map(({ workload }) => workload), false),
        ...spread('created as a replica is killed → Envoy', killed.map(({ envoy }) => envoy), false)
      ],
      { what: 'CPU of both replicas while all is idle, per minute', unit: 'ms', values: [idleMsPerMinute] },
      ...agents === 1 ? [] : [{ what: 'of that for each further idle agent', unit: 'ms/min', values: [perAgent] }]
    ],
    notes: [
      `${delays.created.length} entries created, changed and removed, at one replica and the other in turn; ${killed.length} kills; ` +
      `idle for ${idleMs / 1000} s.`,
      'Dates have a resolution of 1 ms; Envoy\'s are its own (`update_time` of the secret\'s subscription).',
      'Clients, agents, both servers, PostgreSQL and Envoy share the cores. SPIRE was measured elsewhere, with one server and one agent.'
    ]
  }
}

function entryOf (path: string, parentId: SPIFFEIDInit): EntryInit {
  return { spiffeId: { trustDomain, path }, parentId, selectors: [{ type: 'unix', value: `uid:${process.getuid?.() ?? 0}` }] }
}

async function create (bed: ReplicaBed, entries: readonly EntryInit[], replica = 0): Promise<string[]> {
  await using admin = bed.admin(replica)
  const { results } = await admin.entries.batchCreateEntry({ entries })
  return results.map(({ status, entry }) => {
    if (status?.code !== 0 || entry === undefined) throw new Error(`an entry was not created: ${status?.message}`)
    return entry.id
  })
}

async function updateDnsNames (bed: ReplicaBed, id: string, replica: number): Promise<void> {
  await using admin = bed.admin(replica)
  const change = { entries: [{ id, dnsNames: ['web.example.org'] }], inputMask: { dnsNames: true } }
  const { results } = await admin.entries.batchUpdateEntry(change)
  if (results[0]?.status?.code !== 0) throw new Error(`the entry was not changed: ${results[0]?.status?.message}`)
}

async function remove (bed: ReplicaBed, id: string, replica: number): Promise<void> {
  await using admin = bed.admin(replica)
  const { results } = await admin.entries.batchDeleteEntry({ ids: [id] })
  if (results[0]?.status?.code !== 0) throw new Error(`the entry was not removed: ${results[0]?.status?.message}`)
}

function idOf (spiffeId: string): SPIFFEIDInit {
  const [, , trustDomain, ...path] = spiffeId.split('/')
  return { trustDomain, path: `/${path.join('/')}` }
}

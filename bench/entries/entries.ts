import { postgresMissing, startPostgres } from '../../test/fakes/postgres.ts'
import { residentMibOf } from '../measure/process-usage.ts'
import { median } from '../measure/statistics.ts'
import { TestBed } from '../measure/test-bed.ts'
import type { Range, Row, Section, SuiteOptions } from '../suite.ts'
import { EntryLoad, type Stretch } from './entry-load.ts'

interface Plan {
  /** Entries measured at a time; a multiple of 50. */
  readonly stretch: number
  /** How many are stored when it is looked at again. */
  readonly sizes: readonly number[]
  readonly rounds: number
  readonly polls: number
}

interface SpireFigures {
  /** Entries per second over all, from none to so many. */
  readonly created: Readonly<Record<number, number>>
  readonly deleted: number
  /** ms for all pages of 500. */
  readonly listed: Readonly<Record<number, Range>>
  /** ms of server CPU. */
  readonly polled: Readonly<Record<number, number>>
}

const spireOnSqlite: SpireFigures = {
  created: { 1000: 427, 10_000: 82.9 }, deleted: 735, listed: { 1000: [52.9, 52.9], 10_000: [419, 419] }, polled: { 1000: 2.4, 10_000: 8 }
}
const spireOnPostgres: SpireFigures = {
  created: { 1000: 51.2, 10_000: 52.8 }, deleted: 186, listed: { 1000: [21.4, 21.4], 10_000: [730, 730] }, polled: { 1000: 1.1, 10_000: 10 }
}

/** Whether creating, listing and synchronising entries stays as cheap with many as with few. */
export async function runEntries ({ quick, progress }: SuiteOptions): Promise<readonly Section[]> {
  const plan: Plan = quick
    ? { stretch: 100, sizes: [100, 600], rounds: 2, polls: 5 }
    : { stretch: 1000, sizes: [1000, 10_000, 100_000], rounds: 5, polls: 50 }
  const onSqlite = await measure('SQLite', {}, spireOnSqlite, plan, progress)
  const missing = postgresMissing()
  if (missing !== false) return [{ ...onSqlite, notes: [...onSqlite.notes, `Not measured on PostgreSQL: ${missing}.`] }]
  await using postgres = await startPostgres()
  return [onSqlite, await measure('PostgreSQL', { datastore_url: postgres.url }, spireOnPostgres, plan, progress)]
}

async function measure (
  name: string, config: Readonly<Record<string, unknown>>, spire: SpireFigures, plan: Plan, progress: SuiteOptions['progress']
): Promise<Section> {
  await using bed = await TestBed.open(config)
  const load = new EntryLoad(bed, await bed.attest(await bed.joinToken()))
  progress(`${name}: warm-up`)
  for (let round = 0; round < 2; round++) {
    await load.create(plan.stretch)
    await load.deleteAll()
  }
  const [small] = plan.sizes as [number]
  const rows: Row[] = []
  const created = new Map<number, readonly Stretch[]>()
  const deleted: Stretch[] = []
  for (let round = 0; round < plan.rounds; round++) {
    progress(`${name}: ${small} entries, round ${round + 1} of ${plan.rounds}`)
    created.set(small, [...created.get(small) ?? [], await load.create(small)])
    deleted.push(await load.deleteAll())
  }
  for (const size of plan.sizes) {
    const stretches: Stretch[] = []
    while (load.stored < size) {
      stretches.push(await load.create(plan.stretch))
      if (load.stored % (10 * plan.stretch) === 0) progress(`${name}: ${load.stored} entries stored`)
    }
    if (size !== small) created.set(size, stretches.slice(-plan.rounds))
    rows.push(...await readRows(load, size, plan, spire))
  }
  const costs = [...created].map(([size, stretches]) => [size, stretches.map(({ cpuMs }) => cpuMs)] as const)
  const first = median(costs[0]?.[1] ?? [])
  const flatness = costs.map(([size, cpuMs]) => `${size.toLocaleString('en-US')}: ${(median(cpuMs) / first).toFixed(2)}`)
  return {
    title: `Entries on ${name}`,
    rows: [
      ...[...created].map(([size, stretches]) => createdRow(size, stretches, spire)),
      ...costs.map(([size, values]) => ({ what: `server CPU per entry created at ${size.toLocaleString('en-US')}`, unit: 'ms', values })),
      deletedRow(deleted, spire),
      ...rows,
      { what: 'server RSS at the end', unit: 'MiB', values: [residentMibOf(bed.server.pid)] }
    ],
    notes: [
      `CPU per entry created, relative to ${small.toLocaleString('en-US')} stored: ${flatness.join(', ')}.`,
      'Created at N: the last 1,000 before N are stored, in batches of 50; SPIRE\'s rate is the mean from none to N.'
    ]
  }
}

function createdRow (size: number, stretches: readonly Stretch[], { created }: SpireFigures): Row {
  const peer = created[size]
  return {
    what: `created at ${size.toLocaleString('en-US')}`,
    unit: '/s',
    values: stretches.map(({ perSecond }) => perSecond),
    ...peer === undefined ? {} : { spire: [peer, peer] as const },
    budget: [2000, 2000],
    better: 'higher'
  }
}

function deletedRow (stretches: readonly Stretch[], { deleted }: SpireFigures): Row {
  return { what: 'deleted', unit: '/s', values: stretches.map(({ perSecond }) => perSecond), spire: [deleted, deleted], better: 'higher' }
}

async function readRows (load: EntryLoad, size: number, { rounds, polls }: Plan, { listed, polled }: SpireFigures): Promise<Row[]> {
  const lists: number[] = []
  const pollCpu: number[] = []
  const pollWall: number[] = []
  await load.pollWarm(polls)
  for (let round = 0; round < rounds; round++) {
    lists.push((await load.listAll()).wallMs)
    const { cpuMs, wallMs } = await load.pollWarm(size > 10_000 ? Math.ceil(polls / 10) : polls)
    pollCpu.push(cpuMs)
    pollWall.push(wallMs)
  }
  const at = `at ${size.toLocaleString('en-US')}`
  const poll = polled[size]
  return [
    { what: `ListEntries, all pages of 500, ${at}`, unit: 'ms', values: lists, spire: listed[size] },
    { what: `warm poll of an agent ${at}: server CPU`, unit: 'ms', values: pollCpu, spire: poll === undefined ? undefined : [poll, poll] },
    { what: `warm poll of an agent ${at}: wall`, unit: 'ms', values: pollWall }
  ]
}

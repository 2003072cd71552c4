import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { postgresMissing, startPostgres } from '../../test/fakes/postgres.ts'
import { spawnServer } from '../../test/fakes/processes.ts'
import { residentMibOf } from '../measure/process-usage.ts'
import type { Row, Section, SuiteOptions } from '../suite.ts'
import { fill } from './fill.ts'
import type { Population } from './population.ts'
import type { ReplicaFigures } from './replica.ts'

const program = join(import.meta.dirname, 'replica.ts')
const serverStartMs = 600_000

/** What a million entries and ten thousand agents cost one replica: memory, a start, and changes that touch few or all agents. */
export async function runScale ({ quick, progress }: SuiteOptions): Promise<readonly Section[]> {
  const population: Population = quick ? { agents: 100, entries: 5_000, shared: 20 } : { agents: 10_000, entries: 1_000_000, shared: 100 }
  await using scope = new AsyncDisposableStack()
  const { name, url, empty } = await openDatabase(scope)
  const filledMs = await fill(url, population, progress)
  progress('a replica loads them')
  const figures = await measureReplica(url, population)
  progress('a server starts on them, and one without')
  const server = await measureServer(url)
  const bare = await measureServer(empty)
  return [
    memorySection(name, population, figures, [
      { what: 'server: start to serving', unit: 's', values: [server.startMs / 1000] },
      { what: 'server: RSS', unit: 'MiB', values: [server.rssMib] },
      { what: 'server: RSS without any', unit: 'MiB', values: [bare.rssMib] },
      perEntry('server: RSS per entry', server.rssMib - bare.rssMib, population)
    ], filledMs),
    changeSection(population, figures)
  ]
}

async function openDatabase (scope: AsyncDisposableStack): Promise<{ name: string, url: string, empty: string }> {
  if (postgresMissing() !== false) {
    const folder = await mkdtemp(join(tmpdir(), 'assay-scale-'))
    scope.defer(() => rm(folder, { recursive: true, force: true }))
    return { name: 'SQLite', url: join(folder, 'datastore.sqlite3'), empty: join(folder, 'empty.sqlite3') }
  }
  const postgres = scope.use(await startPostgres())
  return { name: 'PostgreSQL', url: await postgres.createSchema(), empty: await postgres.createSchema() }
}

/** In a process of its own, whose memory holds nothing else. */
async function measureReplica (url: string, population: Population): Promise<ReplicaFigures> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', program, url, JSON.stringify(population)])
  return JSON.parse(stdout) as ReplicaFigures
}

async function measureServer (datastoreUrl: string): Promise<{ startMs: number, rssMib: number }> {
  const started = performance.now()
  const { process, folder } = await spawnServer({ config: { datastore_url: datastoreUrl } })
  try {
    while (!process.lines().some(({ msg }) => msg === 'server is running')) {
      if (!process.running || performance.now() - started > serverStartMs) throw new Error(`the server did not start:\n${process.log}`)
      await new Promise(resolve => setTimeout(resolve, 50))
    }
    return { startMs: performance.now() - started, rssMib: residentMibOf(process.pid) }
  } finally {
    await process.stop()
    await rm(folder, { recursive: true, force: true })
  }
}

function memorySection (name: string, population: Population, figures: ReplicaFigures, server: readonly Row[], filledMs: number): Section {
  const { idle, loaded, streaming, changed, loadMs, loadCpuMs } = figures
  const { entries, agents, shared } = population
  return {
    title: `${entries.toLocaleString('en-US')} entries and ${agents.toLocaleString('en-US')} agents on one replica, from ${name}`,
    rows: [
      { what: 'load from the datastore: wall', unit: 's', values: [loadMs / 1000] },
      { what: 'load from the datastore: replica CPU', unit: 's', values: [loadCpuMs / 1000] },
      { what: 'replica: heap in use', unit: 'MiB', values: [loaded.heapMib] },
      { what: 'replica: RSS', unit: 'MiB', values: [loaded.rssMib] },
      perEntry('replica: heap per entry', loaded.heapMib - idle.heapMib, population),
      { what: `replica with ${agents.toLocaleString('en-US')} streams: heap in use`, unit: 'MiB', values: [streaming.heapMib] },
      { what: `replica with ${agents.toLocaleString('en-US')} streams: RSS`, unit: 'MiB', values: [streaming.rssMib] },
      { what: 'replica after the changes below, which it remembers: RSS', unit: 'MiB', values: [changed.rssMib] },
      { what: 'heap per stream', unit: 'KiB', values: [(streaming.heapMib - loaded.heapMib) * 1024 / agents] },
      ...server
    ],
    notes: [
      `Each agent may serve some ${Math.round((entries - shared) / agents - 1 + shared)} entries: below its ID and below an alias of its ` +
        `own, and ${shared} below an alias of all. A stream here has no connection.`,
      `Storing them took ${Math.round(filledMs / 1000)} s. Heap in use: after a collection; RSS holds what V8 keeps for later.`
    ]
  }
}

function perEntry (what: string, mib: number, { entries }: Population): Row {
  return { what, unit: 'B', values: [mib * 2 ** 20 / entries] }
}

function changeSection ({ agents, shared }: Population, { changes }: ReplicaFigures): Section {
  const all = agents.toLocaleString('en-US')
  const names: Readonly<Record<keyof ReplicaFigures['changes'], string>> = {
    one: 'a workload of one agent changed',
    nodeAlias: 'the alias of one agent moved away and back',
    shared: `an entry below the alias of ${all} agents changed`,
    aliasKept: `the alias of ${all} agents changed, and gives them the same ID`,
    aliasMoved: `the alias of ${all} agents moved away and back: ${shared} entries each`,
    bundle: `the own bundle changed: ${all} agents`,
    serial: 'an agent renewed its SVID'
  }
  const entries = Object.entries(names) as Array<[keyof typeof names, string]>
  return {
    title: `What a change costs a replica with ${all} streams`,
    rows: entries.flatMap(([key, what]): Row[] => [
      { what: `${what}: CPU`, unit: 'ms', values: changes[key].map(({ cpuMs }) => cpuMs) },
      { what: `${what}: wall`, unit: 'ms', values: changes[key].map(({ wallMs }) => wallMs) }
    ]),
    notes: [
      'From the commit on: the log is read, the index follows, every stream it touches knows what to tell.',
      'Encoding and sending are not in it; the database shares the cores.'
    ]
  }
}

import t from 'tap'
import { silentLogger } from '../../../src/runtime/logger.ts'
import { ProgressReporter } from '../../../src/server/push/progress-reporter.ts'
import { SpiffeError } from '../../../src/spiffe/errors.ts'
import type { SpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import type { AgentProgress, ProgressStore } from '../../../src/storage/progress-store.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { idOf } from '../../fakes/entries.ts'

const agents = Array.from({ length: 2 }, (_, n) => idOf(`/spire/agent/x/${n}`))
const [one, two] = agents as [SpiffeId, SpiffeId]
const acknowledged = (number: number) => ({ state: 'acknowledged' as const, cursor: { epoch: 'e', number }, unservedEntryIds: [] })

/** A table, and how often it was written. */
class Table implements ProgressStore {
  readonly rows = new Map<string, AgentProgress>()
  writes = 0
  failure: Error | undefined
  /** Runs while a write is under way. */
  during: () => void = () => {}

  async report (progress: readonly AgentProgress[]): Promise<void> {
    await Promise.resolve()
    this.during()
    if (this.failure !== undefined) throw this.failure
    if (progress.length > 0) this.writes++
    for (const row of progress) this.rows.set(row.agentId, row)
  }

  async leave (replicaId: string, _seenAt: Date, agentIds: readonly string[] = [...this.rows.keys()]): Promise<void> {
    for (const id of agentIds) {
      const row = this.rows.get(id)
      if (row?.replicaId === replicaId) this.rows.set(id, { ...row, replicaId: '' })
    }
  }

  async list (): Promise<readonly AgentProgress[]> { return [...this.rows.values()] }
  async prune (): Promise<void> {}
}

async function withReporter (use: (rig: { table: Table, clock: ManualClock, reporter: ProgressReporter }) => Promise<void>): Promise<void> {
  const [table, clock] = [new Table(), new ManualClock()]
  const reporter = new ProgressReporter('here', { store: table, clock, log: silentLogger })
  const stop = new AbortController()
  const running = reporter.run(stop.signal).catch(() => {})
  await use({ table, clock, reporter })
  stop.abort(new Error('done'))
  await running
}

void t.test('reports are written in batches, the newest of each agent', async t => {
  await withReporter(async ({ table, clock, reporter }) => {
    reporter.report(one, acknowledged(1))
    await clock.advance(50)
    t.equal(table.writes, 1, 'the first at once')
    for (let n = 2; n <= 40; n++) {
      reporter.report(one, acknowledged(n))
      reporter.report(two, acknowledged(n))
    }
    await clock.advance(50)
    t.equal(table.writes, 2)
    t.match([...table.rows.values()], [one, two].map(agentId => ({ agentId, cursor: { number: 40 }, replicaId: 'here' })))
    await clock.advance(10_000)
    t.equal(table.writes, 2, 'nothing new, nothing written')
    t.equal(clock.sleeping, 0, 'not even a timer')
  })
})

void t.test('what fails is written later, unless something newer is', async t => {
  await withReporter(async ({ table, clock, reporter }) => {
    table.failure = new SpiffeError('datastore_unavailable', 'away')
    reporter.report(one, acknowledged(1))
    reporter.report(two, acknowledged(1))
    await clock.advance(500)
    reporter.report(one, acknowledged(2))
    table.failure = undefined
    await clock.advance(1_100)
    t.match(table.rows.get(one), { cursor: { number: 2 } })
    t.match(table.rows.get(two), { cursor: { number: 1 } })
  })
})

void t.test('an agent that leaves is marked, and what it said last counts', async t => {
  await withReporter(async ({ table, clock, reporter }) => {
    reporter.report(one, acknowledged(1))
    await clock.advance(50)
    reporter.left(one)
    await clock.advance(50)
    t.match(table.rows.get(one), { cursor: { number: 1 }, replicaId: '' })
    reporter.report(two, acknowledged(5))
    reporter.left(two)
    await clock.advance(50)
    t.match(table.rows.get(two), { cursor: { number: 5 }, replicaId: '' })
    table.during = () => {
      table.during = () => {}
      reporter.report(one, acknowledged(7))
    }
    reporter.report(one, acknowledged(6))
    await clock.advance(200)
    t.match(table.rows.get(one), { cursor: { number: 7 }, replicaId: 'here' }, 'what comes while it writes is written next')
  })
})

void t.test('listeners hear of a report at once', async t => {
  await withReporter(async ({ reporter }) => {
    let heard = 0
    const stop = reporter.onReported(() => { heard++ })
    reporter.report(one, acknowledged(1))
    reporter.left(one)
    t.equal(heard, 1)
    stop()
    reporter.report(one, acknowledged(2))
    t.equal(heard, 1)
  })
})

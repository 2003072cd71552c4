import t, { type Test } from 'tap'
import { Follower } from '../../../src/server/replication/follower.ts'
import { SpiffeError } from '../../../src/spiffe/errors.ts'
import type { ChangedState, Cursor } from '../../../src/storage/change-log.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { ManualClock, settle } from '../../fakes/clock.ts'
import { makeEntry } from '../../fakes/entries.ts'
import { ModelDatabase } from '../../fakes/model-database.ts'

const away = new SpiffeError('datastore_unavailable', 'away')

/** What is shown, and when. */
class Shown {
  readonly applied: Array<{ number: number, ids: string[], anew: boolean }> = []
  reloads = 0
  /** What `apply` does before it ends. */
  beforeApplied: () => Promise<void> = async () => {}

  async reload (): Promise<ChangedState> {
    this.reloads++
    return {
      entries: new Map(), agents: new Map(), bundles: new Map(), federation: new Map(), services: new Map(), endpoints: new Map(),
      revocations: new Map(), authorities: true
    }
  }

  async apply ({ entries }: ChangedState, { number }: Cursor, anew: boolean): Promise<void> {
    await this.beforeApplied()
    this.applied.push({ number, ids: [...entries.keys()], anew })
  }
}

class Rig {
  readonly database = new ModelDatabase()
  readonly shown = new Shown()
  readonly clock = new ManualClock()
  readonly log = capturedLog()
  /** While set, statements wait for it, or fail with it. */
  obstacle: Promise<void> | Error | undefined
  follower!: Follower

  async open (): Promise<this> {
    const store = this.database.storeFor(async statement => {
      if (this.obstacle instanceof Error) throw this.obstacle
      await this.obstacle
      return statement()
    })
    this.follower = await Follower.open({ log: store.log, followed: this.shown, clock: this.clock, logger: this.log.log })
    return this
  }

  write (id: string): Cursor { return this.database.commit({ entries: new Map([[id, makeEntry({ id })]]) }) }

  run (t: Test): void {
    const stop = new AbortController()
    const running = this.follower.run(stop.signal)
    t.teardown(async () => {
      stop.abort(new Error('the test ended'))
      await running
    })
  }
}

void t.test('opening loads all, up to the end of the log', async t => {
  const rig = new Rig()
  rig.write('a')
  const head = rig.write('b')
  await rig.open()
  t.strictSame(rig.shown.applied, [{ number: 2, ids: [], anew: true }])
  t.strictSame(rig.follower.cursor, head)
  t.equal(rig.follower.staleMs, 0)
  t.strictSame(rig.log.lines, [], 'which is nothing to warn of')
})

void t.test('what is written while all is read is shown with it: one state, at one place', async t => {
  const rig = new Rig()
  rig.write('a')
  const reload = rig.shown.reload.bind(rig.shown)
  let writes = 2
  rig.shown.reload = async () => {
    const state = await reload()
    if (writes-- > 0) rig.write('b')
    return { ...state, entries: new Map([['a', makeEntry({ id: 'a' })]]) }
  }
  await rig.open()
  t.strictSame(rig.shown.applied, [{ number: 2, ids: ['a', 'b'], anew: true }])
})

void t.test('a reader far behind shows nothing until it has all: what it reads may be newer than its place', async t => {
  const rig = await new Rig().open()
  rig.database.mostAtOnce = 2
  for (const id of ['a', 'b', 'c', 'a', 'd']) rig.write(id)
  await rig.follower.catchUp()
  t.strictSame(rig.shown.applied.slice(1), [{ number: 5, ids: ['a', 'b', 'c', 'd'], anew: false }])
})

void t.test('who begins to wait after a commit sees it, though a round is under way', async t => {
  const rig = await new Rig().open()
  rig.write('a')
  const gate = Promise.withResolvers<void>()
  rig.shown.beforeApplied = () => gate.promise
  const first = rig.follower.catchUp()
  await settle()
  rig.write('b')
  const second = rig.follower.catchUp()
  const third = rig.follower.catchUp()
  const statements = rig.database.statements
  gate.resolve()
  await first
  t.strictSame(rig.shown.applied.at(-1), { number: 1, ids: ['a'], anew: false }, 'the round that ran has what was there')
  await Promise.all([second, third])
  t.strictSame(rig.shown.applied.at(-1), { number: 2, ids: ['b'], anew: false })
  t.equal(rig.database.statements - statements, 4, 'those that wait share one round')
  const idle = rig.database.statements
  await Promise.all(Array.from({ length: 50 }, () => rig.follower.catchUp()))
  t.equal(rig.database.statements - idle, 1, 'and nothing new costs one statement')
})

void t.test('any number of callers and commits: nobody returns without what was there when it called', async t => {
  const rig = await new Rig().open()
  rig.obstacle = Promise.resolve()
  const missed: number[] = []
  for (let n = 0; n < 300; n++) {
    const { number } = rig.write(`e${n % 7}`)
    void rig.follower.catchUp().then(() => { if (rig.follower.cursor.number < number) missed.push(number) })
    if (n % 3 === 0) await Promise.resolve()
    if (n % 11 === 0) await settle()
  }
  await rig.follower.catchUp()
  t.strictSame(missed, [])
  const numbers = rig.shown.applied.map(({ number }) => number)
  t.strictSame(numbers, [...new Set(numbers)].toSorted((a, b) => a - b), 'shown in order, each place once')
})

void t.test('a failure is the callers\', and the next call goes on from where it was', async t => {
  const rig = await new Rig().open()
  rig.write('a')
  rig.obstacle = away
  await t.rejects(rig.follower.catchUp(), { code: 'datastore_unavailable' })
  rig.obstacle = undefined
  rig.shown.beforeApplied = async () => { throw new Error('not now') }
  await t.rejects(rig.follower.catchUp(), { message: 'not now' })
  t.equal(rig.follower.cursor.number, 0)
  rig.shown.beforeApplied = async () => {}
  await rig.follower.catchUp()
  t.strictSame(rig.shown.applied.slice(1), [{ number: 1, ids: ['a'], anew: false }])
})

void t.test('staleness counts from the last look that came back', async t => {
  const rig = await new Rig().open()
  await rig.clock.advance(700)
  t.equal(rig.follower.staleMs, 700)
  const gate = Promise.withResolvers<void>()
  rig.obstacle = gate.promise
  const looking = rig.follower.catchUp()
  await rig.clock.advance(300)
  gate.resolve()
  await looking
  t.equal(rig.follower.staleMs, 300, 'from when it was asked, not from when the answer came')
  rig.obstacle = away
  await rig.follower.catchUp().catch(() => {})
  await rig.clock.advance(5_000)
  t.equal(rig.follower.staleMs, 5_300)
})

void t.test('a nudge makes it look at once, and it looks every second all the same', async t => {
  const rig = await new Rig().open()
  rig.run(t)
  await settle()
  rig.write('a')
  rig.database.nudges.send()
  await settle()
  t.equal(rig.follower.cursor.number, 1)
  rig.write('b')
  await rig.clock.advance(999)
  t.equal(rig.follower.cursor.number, 1)
  await rig.clock.advance(1)
  t.equal(rig.follower.cursor.number, 2, 'a lost nudge costs a second')
})

void t.test('a nudge that comes while it looks is not lost', async t => {
  const rig = await new Rig().open()
  rig.run(t)
  await settle()
  const gate = Promise.withResolvers<void>()
  rig.shown.beforeApplied = () => gate.promise
  rig.write('a')
  rig.database.nudges.send()
  await settle()
  rig.write('b')
  rig.database.nudges.send()
  gate.resolve()
  await settle()
  t.equal(rig.follower.cursor.number, 2, 'without any time passing')
})

void t.test('where nudges are not proved it looks every 100 ms', async t => {
  const rig = await new Rig().open()
  rig.database.nudged = false
  rig.run(t)
  t.equal(rig.follower.nudged, false)
  rig.write('a')
  await rig.clock.advance(99)
  t.equal(rig.follower.cursor.number, 0)
  await rig.clock.advance(1)
  t.equal(rig.follower.cursor.number, 1)
  const before = rig.database.statements
  await rig.clock.advance(1_000)
  t.equal(rig.database.statements - before, 10)
  rig.database.nudged = true
  await rig.clock.advance(100)
  const proved = rig.database.statements
  await rig.clock.advance(1_000)
  t.equal(rig.database.statements - proved, 1, 'back to a second once they are')
})

void t.test('a database that is away is said once, and followed again when it is back', async t => {
  const rig = await new Rig().open()
  rig.run(t)
  rig.obstacle = away
  await rig.clock.advance(5_000)
  t.ok(rig.follower.staleMs >= 5_000)
  t.strictSame(rig.log.lines.map(({ level }) => level), ['warn'], 'once')
  rig.write('a')
  rig.obstacle = undefined
  await rig.clock.advance(1_000)
  t.equal(rig.follower.cursor.number, 1)
  t.ok(rig.follower.staleMs <= 1_000)
  t.match(rig.log.lines.at(-1), { level: 'info', msg: 'following the database again', afterMs: 5_000 })
})

void t.test('a log that does not go on is read anew', async t => {
  const rig = await new Rig().open()
  for (const id of ['a', 'b', 'c']) rig.write(id)
  await rig.follower.catchUp()
  const backup = rig.database.committed
  rig.write('d')
  await rig.follower.catchUp()
  rig.database.setBack(backup, 'e1')
  await rig.follower.catchUp()
  t.strictSame(rig.follower.cursor, { epoch: 'e1', number: 3 }, 'another epoch')
  t.match(rig.shown.applied.at(-1), { number: 3, anew: true })
  rig.database.setBack({ ...backup, number: 1 }, 'e1')
  await rig.follower.catchUp()
  t.match(rig.shown.applied.at(-1), { number: 1, anew: true }, 'a number that the log has not come to')
  rig.database.setBack(backup, 'e1')
  rig.database.compact(2)
  await rig.follower.catchUp()
  t.match(rig.shown.applied.at(-1), { number: 3, anew: true }, 'a place that is forgotten')
  rig.database.commit({ everything: true })
  rig.write('e')
  await rig.follower.catchUp()
  t.match(rig.shown.applied.at(-1), { number: 5, anew: true }, 'a change of everything')
  t.equal(rig.log.lines.filter(({ level }) => level === 'warn').length, 4, 'each is said')
  const { reloads } = rig.shown
  rig.write('f')
  await rig.follower.catchUp()
  t.strictSame([rig.shown.applied.at(-1), rig.shown.reloads], [{ number: 6, ids: ['f'], anew: false }, reloads], 'and once')
})

void t.test('naps leave nothing behind', async t => {
  const rig = await new Rig().open()
  const stop = new AbortController()
  let listeners = 0
  const { signal } = stop
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)]
  Object.assign(signal, {
    addEventListener: (...given: Parameters<typeof add>) => { listeners++; add(...given) },
    removeEventListener: (...given: Parameters<typeof remove>) => { listeners--; remove(...given) }
  })
  const running = rig.follower.run(signal)
  await rig.clock.advance(3_000)
  const early = listeners
  await rig.clock.advance(30_000)
  t.equal(listeners, early)
  t.ok(rig.clock.sleeping <= 1)
  stop.abort(new Error('done'))
  await running
})

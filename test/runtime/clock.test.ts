import t from 'tap'
import { systemClock } from '../../src/runtime/clock.ts'
import { ManualClock, settle } from '../fakes/clock.ts'

void t.test('the system\'s clock', async t => {
  const before = Date.now()
  const now = systemClock.now().getTime()
  t.ok(before <= now && now <= Date.now())
  const start = systemClock.monotonicMs()
  await systemClock.sleep(15)
  t.ok(systemClock.monotonicMs() - start >= 14, 'sleeps at least as long as asked')
  await systemClock.sleep(0)
  await systemClock.sleep(-5)
  const stop = new AbortController()
  const sleeping = systemClock.sleep(60_000, stop.signal)
  stop.abort(new Error('enough'))
  await t.rejects(sleeping, { message: 'enough' }, 'rejects with the reason')
  await t.rejects(systemClock.sleep(1, AbortSignal.abort(new Error('before'))), { message: 'before' })
})

void t.test('TS-05 a sleep longer than a timer can be does not end at once', async t => {
  const timers: number[] = []
  const real = globalThis.setTimeout
  // A timer whose delay does not fit in 32 bits fires after 1 ms; this one keeps what was asked.
  globalThis.setTimeout = ((callback: () => void, ms: number) => { timers.push(ms); return real(callback, 0) }) as typeof setTimeout
  t.teardown(() => { globalThis.setTimeout = real })
  const tenYearsMs = 315_360_000_000
  await systemClock.sleep(tenYearsMs)
  t.ok(timers.every(ms => ms <= 2_147_483_647), 'TS-05 no timer above 2^31 - 1 ms')
  t.equal(timers.reduce((sum, ms) => sum + ms, 0), tenYearsMs, 'TS-05 together they last as long as asked')
  globalThis.setTimeout = real
  const stop = new AbortController()
  const sleeping = systemClock.sleep(tenYearsMs, stop.signal)
  const first = await Promise.race([sleeping.then(() => 'woke'), systemClock.sleep(20).then(() => 'asleep')])
  t.equal(first, 'asleep', 'TS-05 with real timers')
  stop.abort(new Error('enough'))
  await t.rejects(sleeping, { message: 'enough' })
})

void t.test('the clock moved by hand', async t => {
  const clock = new ManualClock('2026-01-01T00:00:00Z')
  const woken: string[] = []
  void clock.sleep(20).then(() => { woken.push('b') })
  void clock.sleep(10).then(async () => { woken.push('a'); await clock.sleep(5); woken.push('a again') })
  t.equal(clock.sleeping, 2)
  await clock.advance(9)
  t.strictSame(woken, [])
  await clock.advance(11)
  t.strictSame(woken, ['a', 'a again', 'b'], 'in the order they fall due')
  t.equal(clock.now().toISOString(), '2026-01-01T00:00:00.020Z')
  const stop = new AbortController()
  const sleeping = clock.sleep(1, stop.signal)
  stop.abort(new Error('enough'))
  await t.rejects(sleeping, { message: 'enough' })
  await settle()
  t.equal(clock.sleeping, 0)
})

import t from 'tap'
import { inMemorySink } from '../../../src/rpc/telemetry/in-memory-sink.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { testTelemetry } from '../../fakes/telemetry.ts'

void t.test('values are summed up by the second, and told in SPIRE\'s form once it is over', async t => {
  const clock = new ManualClock('2026-01-01T00:00:00.250Z')
  const sink = inMemorySink(clock)
  sink.count('a.b', 2, { status: 'OK' })
  sink.count('a.b', 3, { status: 'OK' })
  sink.count('a.b', 1, { status: 'not found' })
  sink.gauge('held', 1, {})
  sink.gauge('held', 2.5, {})
  t.strictSame([...sink.dump()], [], 'not before')
  await clock.advance(500)
  for (const value of [2, 2]) sink.sample('same', value, {})
  for (const value of [1, 2, 6]) sink.sample('took', value, {})
  await clock.advance(250)
  sink.count('later', 1, {})
  await clock.advance(1_000)
  t.strictSame([...sink.dump()], [
    '[2026-01-01 00:00:00 +0000 UTC][G] \'held\': 2.500',
    '[2026-01-01 00:00:00 +0000 UTC][C] \'a.b.OK\': Count: 2 Min: 2.000 Mean: 2.500 Max: 3.000 Stddev: 0.707 Sum: 5.000 ' +
      'LastUpdated: 2026-01-01 00:00:00.250 +0000 UTC',
    '[2026-01-01 00:00:00 +0000 UTC][C] \'a.b.not_found\': Count: 1 Sum: 1.000 LastUpdated: 2026-01-01 00:00:00.250 +0000 UTC',
    '[2026-01-01 00:00:00 +0000 UTC][S] \'same\': Count: 2 Sum: 4.000 LastUpdated: 2026-01-01 00:00:00.750 +0000 UTC',
    '[2026-01-01 00:00:00 +0000 UTC][S] \'took\': Count: 3 Min: 1.000 Mean: 3.000 Max: 6.000 Stddev: 2.646 Sum: 9.000 ' +
      'LastUpdated: 2026-01-01 00:00:00.750 +0000 UTC',
    '[2026-01-01 00:00:01 +0000 UTC][C] \'later\': Count: 1 Sum: 1.000 LastUpdated: 2026-01-01 00:00:01.000 +0000 UTC'
  ])
})

void t.test('an hour is kept, and 10 000 values', async t => {
  const clock = new ManualClock()
  const sink = inMemorySink(clock)
  const told = () => [...sink.dump()].length
  sink.count('old', 1, {})
  await clock.advance(3_600_000)
  t.equal(told(), 1)
  await clock.advance(1_000)
  sink.gauge('new', 1, {})
  t.equal(told(), 0)
  for (let second = 0; second < 12; second++) {
    for (let name = 0; name < 1_000; name++) sink.count(`n${name}`, second, {})
    await clock.advance(1_000)
  }
  const lines = [...sink.dump()]
  t.equal(lines.length, 10_000)
  t.match(lines[0], /Sum: 2\.000/, 'the oldest went')
})

void t.test('it is logged when somebody asks, gauges too, until the end', async t => {
  const [clock, { log, lines }, listeners] = [new ManualClock(), capturedLog(), new Set<() => void>()]
  {
    await using telemetry = testTelemetry({ inMem: true, hostLabel: false }, {
      clock, log, onAsked: (listener, signal) => {
        listeners.add(listener)
        signal.addEventListener('abort', () => listeners.delete(listener), { once: true })
      }
    })
    telemetry.count('made', 1)
    telemetry.watch('held', () => 3)
    await clock.advance(2_000)
    for (const ask of listeners) ask()
    t.match(lines, [
      { level: 'info', msg: /^\[2026-01-01 00:00:00 \+0000 UTC\]\[C\] 'spire_server\.made': Count: 1 / },
      { level: 'info', msg: '[2026-01-01 00:00:01 +0000 UTC][G] \'spire_server.held\': 3.000' }
    ])
  }
  t.equal(listeners.size, 0)
})

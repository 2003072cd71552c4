import { appendFileSync, closeSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { EnvoyLog } from '../../src/mesh/envoy/envoy-log.ts'
import { capturedLog } from '../fakes/captured-log.ts'

void t.test('what Envoy wrote is passed on once, and its last lines are kept', async t => {
  const file = join(t.testdir({}), 'envoy.log')
  const { log, lines } = capturedLog()
  const envoy = new EnvoyLog(file, log)
  let fd = envoy.begin()
  writeSync(fd, 'warning one\nerror two\nthr')
  envoy.pass()
  t.match(lines, [{ msg: 'one' }, { msg: 'two' }])
  t.strictSame(envoy.recent, ['warning one', 'error two'], 'a line that has no end yet is none')
  writeSync(fd, 'ee\n')
  closeSync(fd)
  envoy.pass()
  t.equal(lines.length, 3)

  fd = envoy.begin()
  writeSync(fd, Array.from({ length: 18 }, (_, n) => `info line ${n}\n`).join(''))
  closeSync(fd)
  envoy.pass()
  t.strictSame(envoy.recent.slice(0, 3), ['error two', 'three', 'info line 0'], 'twenty of them, also of one that has ended')
  t.equal(envoy.recent.length, 20)
})

void t.test('one that is taken over: what it wrote before is known and not passed on again', async t => {
  const file = join(t.testdir({}), 'envoy.log')
  writeFileSync(file, `${'x'.repeat(20_000)}\nwarning before\nerror ${'y'.repeat(2_000)}\nhal`)
  const { log, lines } = capturedLog()
  const envoy = new EnvoyLog(file, log)
  envoy.skip()
  t.strictSame(envoy.recent, ['warning before', `error ${'y'.repeat(994)}`], 'whole lines of the end, cut where they are too long')
  appendFileSync(file, 'f\nwarning after\n')
  envoy.pass()
  t.match(lines, [{ msg: 'f' }, { msg: 'after' }])
  const none = new EnvoyLog(join(t.testdirName, 'nowhere'), log)
  none.skip()
  t.strictSame(none.recent, [], 'without a file there is nothing')
})

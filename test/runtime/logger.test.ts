import { readFileSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { createLogger, reopenLog, silentLogger } from '../../src/runtime/logger.ts'
import { eventually } from '../fakes/eventually.ts'

void t.test('JSON lines with level, time and message', async t => {
  const file = join(t.testdir({}), 'deep', 'log')
  const log = createLogger({ level: 'info', file })
  log.info({ agent: 'spiffe://example.org/spire/agent/x' }, 'agent has its identity')
  log.debug('not at this level')
  log.child({ request: '7' }).warn({ err: new Error('reason') }, 'refused')
  const lines = readFileSync(file, 'utf8').trim().split('\n').map(line => JSON.parse(line) as Record<string, unknown>)
  t.match(lines, [
    { level: 'info', time: /^\d{4}-\d\d-\d\dT.*Z$/, agent: 'spiffe://example.org/spire/agent/x', msg: 'agent has its identity' },
    { level: 'warn', request: '7', err: { message: 'reason', stack: /logger\.test/ }, msg: 'refused' }
  ])
  t.equal(lines.length, 2)
  t.notOk('pid' in (lines[0] as object) || 'hostname' in (lines[0] as object), 'what every line would repeat is left out')
  createLogger({ level: 'info', file }).info('again')
  t.equal(readFileSync(file, 'utf8').trim().split('\n').length, 3, 'an existing file is appended to')
  createLogger({ level: 'silent', file }).fatal('nothing')
  silentLogger.fatal('nothing')
  t.equal(readFileSync(file, 'utf8').trim().split('\n').length, 3)
})

void t.test('lines of text, for people', async t => {
  const file = join(t.testdir({}), 'log')
  const log = createLogger({ level: 'info', file, format: 'text' })
  const caller = { uid: 0, names: ['a', 'b c'] }
  log.info({ socket: '/run/a.sock', caller, none: null, left: undefined, 'odd key=': 1 }, 'agent is serving')
  log.warn({ reason: 'a "quoted"\ntime=0 level=info msg=forged', empty: '', token: 'hunter2' }, 'plain')
  log.error({ err: new Error('broken') }, 'call failed')
  const [first, second, third, ...rest] = readFileSync(file, 'utf8').split('\n')
  t.match(first, new RegExp('^time=\\S+Z level=info msg="agent is serving" socket=/run/a.sock caller.uid=0 ' +
    'caller.names=\\["a","b c"\\] none=null odd_key_=1$'))
  t.match(second, / level=warn msg=plain reason="a \\"quoted\\"\\ntime=0 level=info msg=forged" empty="" token="\[secret\]"$/,
    'a value makes no line of its own, and secrets stay out')
  t.match(third, / level=error msg="call failed" err.type=Error err.message=broken err.stack="Error: broken\\n/)
  t.same(rest, [''])
})

void t.test('a log that cannot be written to ends nobody', async t => {
  const file = join(t.testdir({}), 'log')
  symlinkSync('/dev/full', file)
  const log = createLogger({ level: 'info', file })
  log.info('one')
  log.info('two')
  await setImmediate()
  rmSync(file)
  reopenLog(log)
  log.info('three')
  const messages = () => readFileSync(file, 'utf8').trim().split('\n').map(line => (JSON.parse(line) as { msg: string }).msg)
  t.same(messages(), ['one', 'two', 'three'], 'what waited is written when there is room')

  rmSync(file)
  symlinkSync('/dev/full', file)
  reopenLog(log)
  const long = 'x'.repeat(10_000)
  for (let line = 0; line < 1_000; line++) log.info(long)
  await setImmediate()
  rmSync(file)
  reopenLog(log)
  log.info('four')
  await eventually('it is told that lines are missing', () => messages().some(message => message.includes('lost')), 10_000)
  const kept = messages().filter(message => message === long).length
  t.ok(kept > 50 && kept < 110, `so many lines wait as are no burden: ${kept}`)
  t.match(readFileSync(file, 'utf8'), `"lines":${1_000 - kept}`, 'and all others are counted')
})

void t.test('where a line was logged, if wanted', async t => {
  const file = join(t.testdir({}), 'log')
  const log = createLogger({ level: 'info', file, sourceLocation: true })
  log.info('here')
  log.child({ request: '7' }).info({ a: 1 }, 'there')
  const lines = readFileSync(file, 'utf8').trim().split('\n').map(line => JSON.parse(line) as Record<string, unknown>)
  const source = /^\.\.\/test\/runtime\/logger\.test\.ts:\d+$/
  t.match(lines, [{ msg: 'here', source }, { msg: 'there', a: 1, request: '7', source }])
  t.not(lines[0]?.['source'], lines[1]?.['source'])
})

void t.test('a secret never reaches a log', async t => {
  const file = join(t.testdir({}), 'log')
  const log = createLogger({ level: 'trace', file })
  const secret = 'c2VjcmV0LXZhbHVl'
  const names = ['privateKey', 'private_key', 'token', 'joinToken', 'join_token', 'svidKey', 'password', 'authorization', 'secret']
  for (const name of names) {
    log.info({ [name]: secret }, 'at the top')
    log.info({ request: { [name]: secret } }, 'inside')
    log.child({ [name]: secret }).info('in a child')
    log.child({ svid: { [name]: secret } }).info({ config: { [name]: secret } }, 'inside a child')
  }
  const text = readFileSync(file, 'utf8')
  t.equal(text.trim().split('\n').length, names.length * 4)
  t.notMatch(text, secret)
  t.equal(text.split('[secret]').length - 1, names.length * 5, 'each is marked as left out')
})

import t, { type Test } from 'tap'
import { remembered, serveHealthChecks, type FailureKeys, type Probe } from '../../src/runtime/health-checks.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'

void t.test('what is well, and what failed', async t => {
  let trouble: Error | undefined
  const probes = { one: () => undefined, 'two.three': async () => { if (trouble !== undefined) throw trouble } }
  const plain = await serve(t, probes)
  const asSpire = await serve(t, probes, { one: 'one_err', 'two.three': 'three_err' })
  t.same(await plain('/ready'), [200, { one: 'ok', 'two.three': 'ok' }])
  t.same(await asSpire('/ready'), [200, { one: {}, 'two.three': {} }], 'in SPIRE\'s form')
  trouble = new Error('it is broken')
  t.same(await plain('/ready'), [500, { one: 'ok', 'two.three': 'it is broken' }])
  t.same(await asSpire('/ready'), [500, { one: {}, 'two.three': { three_err: 'it is broken' } }])
  t.same(await plain('/live'), [200, {}], 'who answers lives')
  t.same(await asSpire('/live'), [200, { one: {}, 'two.three': {} }])
  t.equal((await asSpire('/other'))[0], 404)
})

void t.test('what costs something is asked once a minute, and once a second while it fails', async t => {
  const clock = new ManualClock()
  const answer = { trouble: new Error('not yet') as Error | undefined, times: 0 }
  const probe = remembered(() => {
    answer.times++
    if (answer.trouble !== undefined) throw answer.trouble
  }, clock)
  const ask = async () => await Promise.resolve(probe()).then(() => 'ok', (error: Error) => error.message)
  t.same([await ask(), await ask(), answer.times], ['not yet', 'not yet', 1])
  answer.trouble = undefined
  await clock.advance(999)
  t.equal(await ask(), 'not yet')
  await clock.advance(1)
  t.same([await ask(), answer.times], ['ok', 2])
  answer.trouble = new Error('broken')
  await clock.advance(59_999)
  t.same([await ask(), answer.times], ['ok', 2])
  await clock.advance(1)
  t.same([await Promise.all([ask(), ask(), ask()]), answer.times], [['broken', 'broken', 'broken'], 3], 'all who ask at once wait for one')
})

async function serve (t: Test, probes: Readonly<Record<string, Probe>>, keys?: FailureKeys) {
  const [stop, port] = [new AbortController(), await freePort()]
  const options = { host: '127.0.0.1', port, livePath: '/live', readyPath: '/ready' }
  const serving = serveHealthChecks(probes, options, silentLogger, stop.signal, keys)
  t.teardown(async () => {
    stop.abort(new Error('the test is over'))
    await serving
  })
  const ask = async (path: string): Promise<[status: number, body: unknown]> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`)
    const text = await response.text()
    return [response.status, text === '' ? undefined : JSON.parse(text)]
  }
  await eventually('it listens', () => ask('/live').then(() => true, () => false))
  return ask
}

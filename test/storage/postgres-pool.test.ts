import { EventEmitter, once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import type pg from 'pg'
import t from 'tap'
import { systemClock, type Clock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parsePostgresAddress } from '../../src/storage/postgres/postgres-address.ts'
import { PostgresConnector } from '../../src/storage/postgres/postgres-connector.ts'
import { PostgresNudges } from '../../src/storage/postgres/postgres-nudges.ts'
import { ConnectionPool, usualPoolLimits, type PoolLimits } from '../../src/storage/postgres/postgres-pool.ts'
import { Timelines } from '../../src/storage/postgres/timeline.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { across, executeSql, postgresMissing, startPostgres } from '../fakes/postgres.ts'

/** A connection that LISTENs, as far as nudges know it. */
class FakeListener extends EventEmitter {
  deaf = false
  ended = false

  async query (text: string): Promise<void> { t.match(text, /^listen /) }

  hear (payload: string): void { if (!this.deaf && !this.ended) this.emit('notification', { payload }) }

  async end (): Promise<void> { this.lose() }

  lose (): void {
    if (this.ended) return
    this.ended = true
    this.emit('end')
  }
}

await t.test('LISTEN is begun anew when its connection ends, and when nothing is heard', async t => {
  const clock = new ManualClock()
  const opened: FakeListener[] = []
  const nudges = new PostgresNudges({
    openListener: async () => {
      const listener = new FakeListener()
      opened.push(listener)
      return listener as unknown as pg.Client
    },
    execute: async (_text, payload) => { for (const listener of opened) listener.hear(payload) },
    clock,
    log: silentLogger
  })
  const stop = new AbortController()
  const running = nudges.run(stop.signal)
  await clock.advance(2_000)
  t.equal(nudges.proved, true, 'its own heartbeat comes back')
  let told = 0
  nudges.on(() => told++)
  opened[0]?.lose()
  await clock.advance(1_000)
  t.equal(opened.length, 2)
  t.equal(told, 1, 'what nobody told meanwhile is looked for')
  t.equal(nudges.proved, true)
  await clock.advance(60_000)
  t.equal(opened.length, 2, 'a connection that is heard stays')
  const [, second] = opened
  if (second !== undefined) second.deaf = true
  await clock.advance(5_000)
  t.equal(nudges.proved, false, 'silence is noticed, and polled through')
  t.equal(second?.ended, false)
  await clock.advance(8_000)
  t.equal(second?.ended, true, 'a connection that stays silent is given up, though nothing said that it broke')
  t.equal(opened.length, 3)
  t.equal(nudges.proved, true)
  stop.abort(new Error('the test is over'))
  await running
  t.equal(opened[2]?.ended, true)
})

const skip = postgresMissing()
if (skip !== false) {
  t.comment(`skipped: ${skip}`)
  await t.test('PostgreSQL', { skip }, () => {})
} else {
  const postgres = await startPostgres()
  t.teardown(() => postgres[Symbol.asyncDispose]())
  const connectorTo = (url: string, limits: Partial<PoolLimits> = {}, clock: Clock = systemClock) => new PostgresConnector(
    parsePostgresAddress(url), { ...usualPoolLimits, ...limits }, { clock, log: silentLogger, timelines: new Timelines() })
  const poolOf = (limits: Partial<PoolLimits>, clock: Clock = systemClock) => new ConnectionPool({
    connector: connectorTo(postgres.url, limits, clock), limits: { ...usualPoolLimits, ...limits }, clock, log: silentLogger
  })
  const pidOf = async (client: Awaited<ReturnType<ConnectionPool['connect']>>) =>
    (await client.query<{ pid: number }>('select pg_backend_pid() as pid', [])).rows[0]?.pid

  await t.test('connections are lent one at a time, in the order in which they were asked for', async t => {
    const clock = new ManualClock()
    const pool = poolOf({ connections: 2, connectTimeoutMs: 5_000 }, clock)
    const [one, two] = [await pool.connect(), await pool.connect()]
    const served: string[] = []
    const wait = async (name: string) => {
      const client = await pool.connect()
      served.push(name)
      return client
    }
    const [third, fourth] = [wait('third'), wait('fourth')]
    const pid = await pidOf(one)
    one.release()
    const again = await third
    t.equal(await pidOf(again), pid, 'used again')
    two.release()
    await fourth
    t.strictSame(served, ['third', 'fourth'])
    const late = t.rejects(pool.connect(), { code: 'datastore_unavailable', message: 'all 2 connections to the database are busy' })
    await clock.advance(5_000)
    await late
    again.release()
    const ending = pool.end()
    await t.rejects(pool.connect(), { code: 'datastore_unavailable' })
    ;(await fourth).release()
    await ending
    const open = await executeSql(postgres.url, 'select 1 from pg_stat_activity where application_name = \'assay\'')
    t.strictSame(open, [], 'nothing stays open')
  })

  await t.test('a connection that nobody used for long is not lent again', async t => {
    const clock = new ManualClock()
    const pool = poolOf({ connections: 1 }, clock)
    const first = await pool.connect()
    const pid = await pidOf(first)
    first.release()
    await clock.advance(31_000)
    const second = await pool.connect()
    t.not(await pidOf(second), pid)
    second.release()
    await pool.end()
  })

  await t.test('no more stay open unused than are wanted, and none beyond its life', async t => {
    const clock = new ManualClock()
    const pool = poolOf({ connections: 2, idleConnections: 1, lifetimeMs: 10_000 }, clock)
    const [one, two] = [await pool.connect(), await pool.connect()]
    const pids = [await pidOf(one), await pidOf(two)]
    one.release()
    two.release()
    const open = async () => (await executeSql(postgres.url, 'select pid from pg_stat_activity where application_name = \'assay\''))
      .map(({ pid }) => pid)
    await eventually('the second is closed', async () => (await open()).length === 1)
    t.strictSame(await open(), [pids[0]])
    await clock.advance(9_999)
    const kept = await pool.connect()
    t.equal(await pidOf(kept), pids[0], 'still good')
    await clock.advance(1)
    kept.release()
    await eventually('it is closed when it comes back', async () => (await open()).length === 0)
    const next = await pool.connect()
    const young = await pidOf(next)
    t.not(young, pids[0])
    next.release()
    await clock.advance(10_000)
    const after = await pool.connect()
    t.not(await pidOf(after), young, 'and one that grew old unused is not lent')
    after.release()
    await pool.end()
  })

  await t.test('one lost connection takes those with it that were opened before', async t => {
    const pool = poolOf({ connections: 3 })
    const clients = [await pool.connect(), await pool.connect(), await pool.connect()]
    const pids = await Promise.all(clients.map(pidOf))
    clients[0]?.release()
    await executeSql(postgres.url, `select pg_terminate_backend(${pids[1]})`)
    await t.rejects(pidOf(clients[1] as typeof clients[0]))
    await t.rejects(pidOf(clients[1] as typeof clients[0]), 'nothing is sent on it any more')
    t.equal(await pidOf(clients[2] as typeof clients[0]), pids[2], 'what is lent serves on')
    for (const client of clients.slice(1)) client.release()
    const fresh = await pool.connect()
    t.notOk(pids.includes(await pidOf(fresh)))
    fresh.release()
    await pool.end()
  })

  await t.test('limits reach the server, and environment variables change nothing', async t => {
    process.env['PGHOST'] = 'nowhere.invalid'
    process.env['PGSSLMODE'] = 'require'
    t.teardown(() => { for (const name of ['PGHOST', 'PGSSLMODE']) delete process.env[name] })
    const pool = poolOf({ statementTimeoutMs: 1_234, idleTransactionMs: 567 })
    const client = await pool.connect()
    const names = ['application_name', 'idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout']
    const { rows } = await client.query<{ setting: string }>('select setting from pg_settings where name = any($1) order by name', [names])
    t.strictSame(rows.map(({ setting }) => setting), ['assay', '567', '1234', '1234'])
    await t.rejects(client.query('select pg_sleep(5)', []), { code: '57014' })
    t.type(await pidOf(client), 'number', 'a statement that took too long costs no connection')
    client.release()
    await pool.end()
  })

  await t.test('a server that swallows packets', async t => {
    let tries = 0
    const hole = createServer(socket => {
      tries++
      socket.on('error', () => {})
    })
    hole.listen(0, '127.0.0.1')
    await once(hole, 'listening')
    t.teardown(() => hole.close())
    const { port } = hole.address() as AddressInfo
    const url = `postgres://assay@127.0.0.1:${port}/postgres`
    let nowMs = 0
    const clock = { ...systemClock, monotonicMs: () => nowMs }
    const taking = async (ms: number, connecting: Promise<unknown>) => {
      // At once: the attempt ends by the kernel's clock, and must not before this one has moved.
      nowMs += ms
      return await connecting
    }
    const alone = connectorTo(url, { connectTimeoutMs: 100 }, clock)
    await t.rejects(taking(900, alone.connect('test')), { code: 'datastore_unavailable', message: /timeout/ })
    await eventually('it to be tried', () => tries === 1)
    await t.rejects(alone.connect('test'), { code: 'datastore_unavailable', message: /timeout/ })
    t.equal(tries, 1, 'who comes soon after is told at once')
    nowMs += 900
    const tried = once(hole, 'connection')
    await t.rejects(alone.connect('test'), { code: 'datastore_unavailable' })
    await tried
    t.pass('but not for longer than it took')

    const list = across(postgres.url, postgres).replace(/host=/, 'host=127.0.0.1,').replace(/port=/, `port=${port},`)
    await eventually('the server that worked is tried first from then on', async () => {
      // Anew each time: the real server too may be slower than this.
      const connector = connectorTo(list, { connectTimeoutMs: 300 })
      const connect = () => connector.connect('test').catch(() => undefined)
      const first = await connect()
      const before = tries
      const second = await connect()
      for (const client of [first, second]) await client?.end()
      return first !== undefined && second !== undefined && tries === before
    })
    const patient = connectorTo(`${url}?connect_timeout=1`, { connectTimeoutMs: 60_000 })
    await t.rejects(patient.connect('test'), { code: 'datastore_unavailable', message: /timeout/ }, 'the address has the last word')
  })

  await t.test('a server that takes no writes is left, and used again when it does', async t => {
    const connector = connectorTo(postgres.url)
    await executeSql(postgres.url, 'alter system set default_transaction_read_only = on')
    await executeSql(postgres.url, 'select pg_reload_conf()')
    await eventually('the setting holds', async () =>
      (await executeSql(postgres.url, 'show transaction_read_only'))[0]?.['transaction_read_only'] === 'on')
    await t.rejects(connector.connect('test'), { code: 'datastore_unavailable', message: /the server is read-only/ })
    const pool = poolOf({})
    const writable = `${postgres.url}&options=${encodeURIComponent('-c default_transaction_read_only=off')}`
    await executeSql(writable, 'alter system reset default_transaction_read_only')
    await executeSql(writable, 'select pg_reload_conf()')
    await eventually('it is writable', () => connector.connect('test').then(client => client.end().then(() => true), () => false))
    const client = await pool.connect()
    const other = await pool.connect()
    await client.query('begin read only', [])
    await t.rejects(client.query('create table x ()', []), { code: '25006' })
    const pid = await pidOf(other)
    client.release()
    other.release()
    const next = await pool.connect()
    t.not(await pidOf(next), pid, 'every connection is chosen anew')
    next.release()
    await pool.end()
  })
}

import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { Kysely, PostgresDialect, sql } from 'kysely'
import pg from 'pg'
import t from 'tap'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { codeOf } from '../../src/spiffe/errors.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { parsePostgresAddress } from '../../src/storage/postgres/postgres-address.ts'
import { PostgresConnector } from '../../src/storage/postgres/postgres-connector.ts'
import { translatePostgresError } from '../../src/storage/postgres/postgres-errors.ts'
import { ConnectionPool, usualPoolLimits } from '../../src/storage/postgres/postgres-pool.ts'
import { Timelines } from '../../src/storage/postgres/timeline.ts'
import { eventually } from '../fakes/eventually.ts'
import { atOnceMs, executeSql, patientPool, postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { datastoreContract } from './contract.ts'
import { agent, draft } from './fixture.ts'
import { progressOf } from './replica-contract.ts'

const deps = { clock: systemClock, log: silentLogger }
const patient = { ...deps, poolLimits: patientPool }

await t.test('an unreachable database is named at once, without its password', async t => {
  const started = performance.now()
  const error = await openDatastore('postgres://someone:s3cret@127.0.0.1:1/assay', patient).catch((error: unknown) => error)
  t.match(error, { code: 'datastore_unavailable', message: /assay at 127\.0\.0\.1:1 as someone .*ECONNREFUSED/ })
  t.equal((error as { row: { retry: boolean } }).row.retry, true)
  t.ok(performance.now() - started < atOnceMs, 'before an attempt to connect has to end')
  t.notMatch(inspect(error, { depth: 10, showHidden: true }), /s3cret/)
})

await t.test('which errors mean that the database is away', async t => {
  const state = (code: string) => Object.assign(new pg.DatabaseError('said so', 7, 'error'), { code })
  const system = (code: string) => Object.assign(new Error('said so'), { code })
  const translated = (error: unknown) => codeOf(translatePostgresError(error, 'the database'))
  const away = [state('57P01'), state('08006'), state('53300'), state('28P01'), state('3D000'), state('25006'), state('57014'),
    system('EAI_AGAIN'), system('EPIPE'), system('CERT_HAS_EXPIRED'), new Error('Connection terminated unexpectedly'),
    new Error('timeout exceeded when trying to connect'), new Error('Query read timeout'), new Error('SASL: no password')]
  for (const error of away) t.equal(translated(error), 'datastore_unavailable', 'code' in error ? error.code : error.message)
  t.equal(translated(state('XX001')), 'datastore_corrupt')
  const bugs = [state('42601'), new TypeError('undefined'), new Error('other'), Object.assign(new TypeError('x'), { code: 'ERR_X' })]
  for (const bug of bugs) {
    t.equal(translatePostgresError(bug, 'the database'), bug, 'a bug stays a bug')
  }
})

const skip = postgresMissing()
if (skip !== false) {
  t.comment(`skipped: ${skip}`)
  await t.test('PostgreSQL', { skip }, () => {})
} else {
  const cluster = await startPostgres()
  t.teardown(() => cluster[Symbol.asyncDispose]())

  await datastoreContract(t, { kind: 'postgres', fresh: () => cluster.createSchema(), execute: executeSql })

  await t.test('a database that does not exist, and one that is no UTF-8', async t => {
    const url = cluster.url.replace('/postgres?', '/nowhere?')
    await t.rejects(openDatastore(url, deps), { code: 'datastore_unavailable', message: /"nowhere" does not exist/ })
    await executeSql(cluster.url, 'create database ascii encoding \'SQL_ASCII\' template template0')
    await t.rejects(openDatastore(cluster.url.replace('/postgres?', '/ascii?'), deps), { code: 'config_invalid', message: /SQL_ASCII/ })
  })

  await t.test('an address past a pooler must lead to the same database', async t => {
    const url = await cluster.createSchema()
    await executeSql(cluster.url, 'create database elsewhere')
    const directUrl = cluster.url.replace('/postgres?', '/elsewhere?')
    const message = /datastore_direct_url leads to another database \(elsewhere\) than datastore_url \(postgres\); .* or leave it out/
    await t.rejects(openDatastore(url, { ...deps, directUrl }), { code: 'config_invalid', message })
    await (await openDatastore(url, { ...deps, directUrl: cluster.url }))[Symbol.asyncDispose]()
    await (await openDatastore(url, { ...deps, directUrl: 'postgres://u@127.0.0.1:1/x' }))[Symbol.asyncDispose]()
    t.pass('LISTEN needs the database, not the schema; one that cannot be reached now may be right')
  })

  await t.test('several servers on one database', async t => {
    const url = await cluster.createSchema()
    await using one = await openDatastore(url, deps)
    await using two = await openDatastore(url, deps)
    const drafts = Array.from({ length: 30 }, (_, n) => draft(`w${n}`))
    const outcomes = (await Promise.all([one, two, one, two].map((store, n) =>
      store.entries.createMany(n < 2 ? drafts : drafts.toReversed())))).flat()
    t.equal(outcomes.filter(({ kind }) => kind === 'created').length, 30)
    t.equal(outcomes.filter(({ kind }) => kind === 'similar').length, 90)
  })

  await t.test('a replica whose clock is wrong is known to live, as are its agents, and knows others to', async t => {
    const url = await cluster.createSchema()
    const clocks = [0, 3_600_000, -3_600_000].map(aheadMs => ({ ...systemClock, now: () => new Date(Date.now() + aheadMs) }))
    for (const [id, clock] of clocks.entries()) {
      await using store = await openDatastore(url, { ...deps, clock })
      const cursor = { epoch: 'e', number: 1 }
      await store.replicas.report({ id: `${id}`, name: 'host', version: '1', startedAt: clock.now(), cursor, facts: {} })
      await store.progress.report([{ ...progressOf(`${id}`), seenAt: clock.now() }])
      await store.progress.leave('r1', clock.now(), [agent(`${id}`).id])
    }
    for (const clock of clocks) {
      await using store = await openDatastore(url, { ...deps, clock })
      await store.replicas.prune(new Date(clock.now().getTime() - 600_000))
      await store.progress.prune(new Date(clock.now().getTime() - 600_000))
      const seen = [...await store.replicas.list(), ...await store.progress.list()]
      t.equal(seen.filter(({ seenAt }) => Math.abs(clock.now().getTime() - seenAt.getTime()) < 300_000).length, 6)
    }
  })

  await t.test('a server that vanishes in the midst of several changes keeps the others from theirs for a moment', async t => {
    const url = await cluster.createSchema()
    await using store = await openDatastore(url, deps)
    const connector = new PostgresConnector(parsePostgresAddress(url), { ...usualPoolLimits, idleTransactionMs: 300 }, {
      ...deps, timelines: new Timelines()
    })
    const vanished = await Promise.all(Array.from({ length: 3 }, () => connector.connect('assay')))
    // In one message: a moment between two would be one in which nothing is said.
    const lock = (client: pg.Client) => client.query('begin; update log_head set number = number')
    await lock(vanished[0] as pg.Client)
    // These wait for it, and each for the one before: nobody is there to go on.
    const waiting = vanished.slice(1).map(lock)
    const [outcome] = await store.entries.createMany([draft('waited')])
    t.equal(outcome?.kind, 'created')
    await Promise.allSettled([...waiting, ...vanished.map(client => client.end())])
  })

  await t.test('a connection that falls silent is given up', async t => {
    let silent = false
    const passed: Socket[] = []
    const proxy = createServer(client => {
      const server = connect(join(new URL(cluster.url).searchParams.get('host') ?? '', '.s.PGSQL.5432'))
      passed.push(client, server)
      for (const socket of [client, server]) socket.on('error', () => {})
      client.on('data', data => { if (!silent) server.write(data) })
      server.on('data', data => { if (!silent) client.write(data) })
    })
    proxy.listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    t.teardown(() => {
      for (const socket of passed) socket.destroy()
      proxy.close()
    })
    const url = `postgres://assay@127.0.0.1:${(proxy.address() as AddressInfo).port}/postgres`
    const limits = { ...usualPoolLimits, connections: 1, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000, answerTimeoutMs: 300 }
    const connector = new PostgresConnector(parsePostgresAddress(url), limits, { ...deps, timelines: new Timelines() })
    const db = new Kysely({ dialect: new PostgresDialect({ pool: new ConnectionPool({ connector, limits, ...deps }) }) })
    t.teardown(() => db.destroy())
    const ask = () => sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(db).then(({ rows }) => rows[0]?.pid)
    let before: number | undefined
    await eventually('one connection is used again', async () => {
      const [first, second] = [await ask().catch(() => -1), await ask().catch(() => -2)]
      before = second
      return first === second
    })
    silent = true
    const error: unknown = await ask().catch((error: unknown) => error)
    t.equal(codeOf(translatePostgresError(error, 'the database')), 'datastore_unavailable')
    silent = false
    let after: number | undefined
    await eventually('the next statement has a connection', async () => {
      after = await ask().catch(() => undefined)
      return after !== undefined
    })
    t.not(after, before, 'a new one')
  })

  await t.test('a database that stops is unavailable, and used again when it is back', async t => {
    const url = await cluster.createSchema()
    await using store = await openDatastore(url, patient)
    await Promise.all(Array.from({ length: 8 }, (_, n) => store.entries.createMany([draft(`w${n}`)])))
    const busy = (async () => {
      for (let n = 0; ; n++) await store.entries.createMany([draft(`busy${n}`)])
    })().catch((error: unknown) => error)
    await cluster.stop()
    t.match(codeOf(await busy), /^datastore_(unavailable|outcome_unknown)$/, 'a writer caught in the middle, or while it committed')
    for (let n = 0; n < 12; n++) {
      const started = performance.now()
      const message = /^(?!.*timeout)/is
      await t.rejects(store.ping(), { code: 'datastore_unavailable', message })
      await t.rejects(store.entries.createMany([draft('down')]), { code: 'datastore_unavailable', message })
      t.ok(performance.now() - started < atOnceMs, 'said before an attempt to connect has to end')
    }
    await cluster.start()
    await store.ping()
    t.ok(await store.entries.count({}) >= 8, 'the same store, the same rows')
    t.match(await store.entries.createMany([draft('up')]), [{ kind: 'created' }])
  })
}

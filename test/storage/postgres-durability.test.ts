import t from 'tap'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { codeOf } from '../../src/spiffe/errors.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { eventually } from '../fakes/eventually.ts'
import { executeSql, postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startPostgresProxy } from '../fakes/postgres-proxy.ts'
import { draft } from './fixture.ts'

const skip = postgresMissing()
if (skip !== false) t.comment(`skipped: ${skip}`)
const deps = { clock: systemClock, log: silentLogger }

await t.test('a server says how its database could lose what it confirmed', { skip }, async t => {
  await using postgres = await startPostgres({ settings: { fsync: 'off' } })
  const url = await postgres.createSchema()
  await using store = await openDatastore(url, deps)
  t.match(await store.warnings(), [/fsync = off/, /no synchronous standby.*set synchronous_standby_names/])
  t.equal((await store.warnings()).length, 2)
  await using careless = await openDatastore(`${url}%20-c%20synchronous_commit%3Doff`, deps)
  t.match((await careless.warnings()).join('\n'), /synchronous_commit = off\).*a crash loses/, 'as its own sessions have it')
  await using proxy = await startPostgresProxy(postgres)
  const far = proxy.through(url).replace('127.0.0.1', '0.0.0.0')
  await using open = await openDatastore(far, deps)
  t.match(await open.warnings(), [/at 0\.0\.0\.0 is not encrypted; add sslmode=verify-full/, /fsync/, /standby/])
  await using chosen = await openDatastore(`${far}&sslmode=disable`, deps)
  t.equal((await chosen.warnings()).length, 2, 'unless that was asked for')
})

await t.test('a synchronous standby, there and away', { skip }, async t => {
  await using primary = await startPostgres()
  const url = await primary.createSchema()
  await using standby = await primary.startStandby('standby')
  await using store = await openDatastore(url, deps)
  await executeSql(primary.url, 'create role app login; grant all on schema test_1 to app; grant all on all tables in schema test_1 to app')
  await using ordinary = await openDatastore(url.replace('user=assay', 'user=app'), deps)
  const set = async (setting: string) => {
    await executeSql(primary.url, `alter system set ${setting}`)
    await executeSql(primary.url, 'select pg_reload_conf()')
  }
  await set('synchronous_standby_names = \'standby\'')
  await eventually('commits wait for the standby', async () =>
    (await executeSql(primary.url, 'select 1 from pg_stat_replication where sync_state = \'sync\'')).length === 1)
  t.strictSame(await store.warnings(), [], 'nothing to say')
  t.match(await store.entries.createMany([draft('confirmed')]), [{ kind: 'created' }])
  await using local = await openDatastore(`${url}%20-c%20synchronous_commit%3Dlocal`, deps)
  t.match(await local.warnings(), [/does not wait for its synchronous standby \(synchronous_commit = local\)/])

  await standby.stop()
  await eventually('the primary has noticed', async () => (await executeSql(primary.url, 'select 1 from pg_stat_replication')).length === 0)
  t.match(await store.warnings(), [/no synchronous standby of PostgreSQL is connected: changes wait/])
  const change = store.entries.createMany([draft('cancelled')])
  const refused = t.rejects(change, { code: 'datastore_outcome_unknown', message: /canceling wait for synchronous replication/ },
    'PostgreSQL answers a cancelled COMMIT with success and a warning: nobody is told that it cannot be lost')
  await eventually('the wait is cut short', async () => (await executeSql(primary.url,
    'select pg_cancel_backend(pid) from pg_stat_activity where wait_event = \'SyncRep\'')).length > 0)
  await refused
  t.equal(await store.entries.count({}), 2, 'it was made all the same')
  let hurried: unknown
  await eventually('a hasty one has come up to its commit', async () => {
    // A busy machine may let it wait for any other answer as well: then nothing was made.
    hurried = await (async () => {
      await using hasty = await openDatastore(url, { ...deps, poolLimits: { answerTimeoutMs: 300 } })
      return await hasty.entries.createMany([draft('waiting')])
    })().catch((error: unknown) => error)
    return codeOf(hurried) !== 'datastore_unavailable'
  }, 60_000)
  t.match(hurried, { code: 'datastore_outcome_unknown', message: /timeout/ })
  t.strictSame(await ordinary.warnings(), [], 'a role that may not see the standbys does not guess')

  await standby.start()
  t.match(await store.entries.createMany([draft('again')]), [{ kind: 'created' }], 'goes on')
  t.equal(await store.entries.count({}), 4, 'with what nobody waited for any more')
})

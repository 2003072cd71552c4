import t from 'tap'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { across, atOnceMs, executeSql, patientPool, postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { openTestReplica } from '../fakes/replica.ts'
import { agent, bundle, domain, draft, id } from './fixture.ts'

const skip = postgresMissing()
if (skip !== false) t.comment(`skipped: ${skip}`)
const deps = { clock: systemClock, log: silentLogger }
const agentId = id('/spire/agent/join_token/node')

/** How long it took to be refused. */
async function refusalOf (work: Promise<unknown>): Promise<{ readonly error: unknown, readonly ms: number }> {
  const startedMs = performance.now()
  const error: unknown = await work.then(() => undefined, (error: unknown) => error)
  return { error, ms: performance.now() - startedMs }
}

await t.test('the primary stops and its standby is promoted', { skip }, async t => {
  await using primary = await startPostgres()
  const schema = await primary.createSchema()
  await using standby = await primary.startStandby('standby')
  const url = across(schema, primary, standby)
  const { log, lines } = capturedLog()
  await using store = await openDatastore(url, { clock: systemClock, log, poolLimits: patientPool })
  await store.entries.createMany([draft('before')])
  const before = await store.log.head()
  await standby.catchUp()

  await t.rejects(openDatastore(across(schema, standby), deps), { code: 'datastore_unavailable', message: /the server is a standby/ },
    'a standby is never taken for the truth')
  await using second = await openDatastore(across(schema, standby, primary), deps)
  t.equal(await second.entries.count({}), 1, 'not even where it is named first')

  await primary.stop()
  for (const work of [() => store.entries.createMany([draft('meanwhile')]), () => store.ping(), () => store.log.read(before)]) {
    const { error, ms } = await refusalOf(work())
    t.match(error, { code: 'datastore_unavailable', message: /no server takes writes; .*:5432: .*; .*:5432: the server is a standby/ })
    t.notMatch(String(error), /timeout/i)
    t.ok(ms < atOnceMs, `said before an attempt to connect has to end, in ${Math.round(ms)} ms`)
  }
  await standby.promote()
  t.match(await store.entries.createMany([draft('after')]), [{ kind: 'created' }], 'goes on at the first attempt')
  t.ok(lines.some(({ msg }) => msg === 'the PostgreSQL primary is another server now'))
  t.equal(await second.entries.count({}), 2)
  const after = await store.log.head()
  t.equal(after.epoch, before.epoch.replace(/1$/, '2'), 'the epoch ends in the timeline')
  t.match(await store.log.read(before), { kind: 'lost' })
  t.match(await store.log.read({ ...after, number: after.number - 1 }), { kind: 'changes' }, 'and goes on from there')

  await primary.start()
  t.match(await second.entries.createMany([draft('more')]), [{ kind: 'created' }])
  await standby.stop()
  const { error } = await refusalOf(store.entries.createMany([draft('split')]))
  t.match(error, { code: 'datastore_unavailable', message: /a primary of the past, on timeline 00000001: 00000002 was seen/ },
    'the old primary takes writes again, but nobody goes back to it')
  await standby.start()
  await store.ping()
  t.equal(await store.entries.count({}), 3, 'nothing went to the old one')
})

await t.test('a database that was restored from a dump begins another epoch', { skip }, async t => {
  await using postgres = await startPostgres()
  const url = await postgres.createSchema()
  await using store = await openDatastore(url, deps)
  await store.entries.createMany([draft('before')])
  const before = await store.log.head()
  await executeSql(url, 'alter table log_head rename to dumped; create table log_head (like dumped including all)')
  await executeSql(url, 'insert into log_head select * from dumped; drop table dumped')
  const after = await store.log.head()
  t.equal(after.number, before.number)
  t.not(after.epoch, before.epoch)
  t.match(await store.log.read(before), { kind: 'lost' })
})

await t.test('a standby that lacked the last commits is promoted', { skip }, async t => {
  await using primary = await startPostgres()
  const schema = await primary.createSchema()
  await using standby = await primary.startStandby('standby')
  await using store = await openDatastore(across(schema, primary, standby), deps)
  await store.entries.createMany(['kept', 'changed', 'deleted', 'deleted-by-both'].map(name => draft(name, { id: name })))
  await store.agents.attest(agent('node', { expiresAt: new Date(Date.now() + 3_600_000) }))
  await store.bundles.set(bundle('partner.test', { refreshHintSeconds: 1 }))
  const replica = await openTestReplica(store, domain('example.org'), systemClock)
  await standby.catchUp()
  await standby.cutOff()

  const change = (store: Datastore, hint: string) => store.entries.updateMany([{ id: 'changed', change: { hint } }])
  await change(store, 'lost')
  await store.entries.createMany([draft('lost', { id: 'lost' })])
  await store.entries.deleteMany(['deleted', 'deleted-by-both'])
  await store.agents.ban(agentId)
  await store.bundles.set(bundle('partner.test', { refreshHintSeconds: 2 }))
  await store.bundles.create(bundle('lost.test'))
  const lease = await store.leases.acquire('chores', 'one', 60_000, { seize: true })
  await replica.catchUp()
  t.match(replica.registry.get('changed'), { revisionNumber: 1, hint: 'lost' })
  t.equal(replica.agents.get(agentId)?.banned, true)
  const { cursor } = replica

  await primary.stop()
  await standby.promote()
  await using direct = await openDatastore(across(schema, standby), deps)
  await change(direct, 'found')
  await direct.entries.createMany([draft('found', { id: 'found' })])
  await direct.entries.deleteMany(['deleted-by-both'])
  await direct.bundles.set(bundle('partner.test', { refreshHintSeconds: 3 }))
  await direct.bundles.create(bundle('found.test'))
  const other = await direct.leases.acquire('chores', 'two', 60_000, { seize: true })

  await replica.catchUp()
  t.equal(replica.cursor.epoch, cursor.epoch.replace(/1$/, '2'))
  t.ok(replica.cursor.number <= cursor.number, 'numbers are used a second time')
  t.strictSame([...replica.registry.ids()].toSorted(), ['changed', 'deleted', 'found', 'kept'], 'nothing missed, nothing lost in memory')
  t.match(replica.registry.get('changed'), { revisionNumber: 1, hint: 'found' }, 'even where the old and the new change look alike')
  t.equal(replica.agents.get(agentId)?.banned, false)
  t.equal(replica.bundleOf(domain('lost.test')), undefined)
  t.match(replica.bundleOf(domain('found.test')), { trustDomain: 'found.test' })
  t.match(replica.bundleOf(domain('partner.test')), { refreshHintSeconds: 3 })

  t.equal(other.token, lease.token, 'the new primary has counted the same')
  const ours = store.leases.fenced('chores', lease)
  await t.rejects(ours.entries.createMany([draft('x')]), { code: 'lease_lost' }, 'who held it on the old primary alone holds it no more')
  await using theirs = await openDatastore(across(schema, standby), deps)
  t.match(await theirs.leases.fenced('chores', other).entries.createMany([draft('y')]), [{ kind: 'created' }])
  t.match(await executeSql(across(schema, standby), 'select holder, token from leases'), [{ holder: 'two', token: String(other.token) }])
})

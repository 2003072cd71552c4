import type { Test } from 'tap'
import { silentLogger } from '../../src/runtime/logger.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { ManualClock } from '../fakes/clock.ts'
import { agentContract } from './agent-contract.ts'
import { bundleContract } from './bundle-contract.ts'
import { changeLogContract } from './change-log-contract.ts'
import { entryContract } from './entry-contract.ts'
import { federationContract } from './federation-contract.ts'
import { filterContract } from './filter-contract.ts'
import { draft, openFresh, type DatabaseKind } from './fixture.ts'
import { leaseContract } from './lease-contract.ts'
import { partnerStateContract } from './partner-state-contract.ts'
import { policyContract } from './policy-contract.ts'
import { replicaContract } from './replica-contract.ts'
import { serviceContract } from './service-contract.ts'
import { revocationContract } from './revocation-contract.ts'

/** What every datastore does, whatever lies below it. */
export async function datastoreContract (t: Test, database: DatabaseKind): Promise<void> {
  const deps = { clock: new ManualClock(), log: silentLogger }

  await t.test('closed and opened again, everything is there', async t => {
    const url = await database.fresh(t)
    const store = await openDatastore(url, deps)
    t.equal(store.kind, database.kind)
    await store.ping()
    const [outcome] = await store.entries.createMany([draft('a', { id: 'a' })])
    await store[Symbol.asyncDispose]()
    await store[Symbol.asyncDispose]()
    await using again = await openDatastore(url, deps)
    t.match(outcome, { kind: 'created', entry: await again.entries.get('a') })
  })

  await t.test('several that open an empty database at once migrate it once', async t => {
    const url = await database.fresh(t)
    const opened = await Promise.allSettled(Array.from({ length: 4 }, () => openDatastore(url, deps)))
    const stores = opened.flatMap(result => result.status === 'fulfilled' ? [result.value] : [])
    t.equal(stores.length, database.kind === 'sqlite' ? 1 : 4, 'a SQLite file serves one')
    await stores[0]?.entries.createMany([draft('a')])
    for (const store of stores) {
      t.equal(await store.entries.count({}), 1)
      await store[Symbol.asyncDispose]()
    }
    t.strictSame((await database.execute(url, 'select number from schema_migrations')).map(row => row.number), [1, 2, 3, 4, 5, 6, 7])
  })

  await t.test('closing lets what runs come to its end', async t => {
    const url = await database.fresh(t)
    const store = await openDatastore(url, deps)
    const writes = Array.from({ length: 20 }, (_, n) => store.entries.createMany([draft(`w${n}`)]))
    const closed = store[Symbol.asyncDispose]()
    await t.rejects(store.entries.createMany([draft('late')]), { code: 'datastore_unavailable', message: 'the datastore is closed' })
    await Promise.all([...writes, closed])
    await using again = await openDatastore(url, deps)
    t.equal(await again.entries.count({}), 20)
  })

  await t.test('a database of a newer version is refused', async t => {
    const url = await database.fresh(t)
    await (await openDatastore(url, deps))[Symbol.asyncDispose]()
    await database.execute(url, 'insert into schema_migrations (number, name) values (9999, \'from-the-future\')')
    await t.rejects(openDatastore(url, deps), { code: 'datastore_newer', message: /schema 9999 \(from-the-future\), .* up to \d+/ })
    await database.execute(url, 'delete from schema_migrations where number = 9999')
    await (await openDatastore(url, deps))[Symbol.asyncDispose]()
    t.pass('the refusal left no lock behind')
  })

  await t.test('a database of an older version stays as it is where it may not be migrated (disable_migration)', async t => {
    const url = await database.fresh(t)
    const fixed = { ...deps, migrate: false }
    await (await openDatastore(url, fixed))[Symbol.asyncDispose]()
    const numbers = async () =>
      (await database.execute(url, 'select number from schema_migrations order by number')).map(row => Number(row.number))
    t.strictSame(await numbers(), [1, 2, 3, 4, 5, 6, 7], 'where there is none it is made')
    await (await openDatastore(url, fixed))[Symbol.asyncDispose]()
    await database.execute(url, 'drop table partner_states')
    await database.execute(url, 'delete from schema_migrations where number = 7')
    await t.rejects(openDatastore(url, fixed), { code: 'datastore_older', message: /has schema 6, .* works with 7, and disable_migration/ })
    t.strictSame(await numbers(), [1, 2, 3, 4, 5, 6], 'nothing was changed')
    await (await openDatastore(url, deps))[Symbol.asyncDispose]()
    t.strictSame(await numbers(), [1, 2, 3, 4, 5, 6, 7], 'without it, it is brought up to date')
  })

  await t.test('reads wait for a transaction, and see it whole', async t => {
    const { store } = await openFresh(t, database)
    const drafts = Array.from({ length: 50 }, (_, n) => draft(`w${n}`))
    const writing = store.entries.createMany(drafts)
    const counts = await Promise.all(Array.from({ length: 20 }, () => store.entries.count({})))
    await writing
    t.strictSame(counts.filter(count => count !== 0 && count !== 50), [])
    t.equal(await store.entries.count({}), 50)
  })

  await entryContract(t, database)
  await filterContract(t, database)
  await agentContract(t, database)
  await bundleContract(t, database)
  await federationContract(t, database)
  await partnerStateContract(t, database)
  await changeLogContract(t, database)
  await leaseContract(t, database)
  await replicaContract(t, database)
  await serviceContract(t, database)
  await policyContract(t, database)
  await revocationContract(t, database)
}

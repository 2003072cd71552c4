import fc from 'fast-check'
import t from 'tap'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { codeOf } from '../../src/spiffe/errors.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { holds } from '../fakes/holds.ts'
import { executeSql, postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startPostgresProxy, type Fate } from '../fakes/postgres-proxy.ts'
import { draft } from './fixture.ts'

const skip = postgresMissing()
if (skip !== false) t.comment(`skipped: ${skip}`)
const deps = { clock: systemClock, log: silentLogger }

await t.test('a connection that is lost on the way', { skip }, async t => {
  await using postgres = await startPostgres()
  await using proxy = await startPostgresProxy(postgres)
  const url = await postgres.createSchema()
  await using store = await openDatastore(proxy.through(url), deps)
  let last = 0

  /** Lets the statements named meet their fate, so many times; all others pass. */
  const meet = (which: RegExp, fate: Fate, times = 1) => {
    let left = times
    proxy.statements.length = 0
    proxy.fate = text => which.test(text) && left-- > 0 ? fate : 'pass'
  }
  const seen = (which: RegExp) => proxy.statements.filter(text => which.test(text)).length
  const create = async () => {
    const id = `n${++last}`
    const outcome = await store.entries.createMany([draft(id, { id })]).then(([outcome]) => outcome?.kind, codeOf)
    proxy.fate = () => 'pass'
    return { outcome, stored: (await executeSql(url, `select 1 from entries where id = '${id}'`)).length }
  }
  const numbers = async () => (await executeSql(url, 'select number from change_log order by number')).map(({ number }) => Number(number))

  await t.test('before or within a transaction: it is begun again, once', async t => {
    const places: Record<string, RegExp> = {
      'its first statement': /^start transaction/,
      'a read': /select .* from "entries"/s,
      'a write': /^insert into "entries"/,
      'the log': /log_head/
    }
    for (const [place, which] of Object.entries(places)) {
      for (const fate of ['cut before', 'cut after'] as const) {
        meet(which, fate)
        t.strictSame(await create(), { outcome: 'created', stored: 1 }, `${place}, ${fate}`)
        t.equal(seen(/^start transaction/), 2)
        t.equal(seen(/^commit/), 1)
      }
    }
    meet(/^insert into "entries"/, 'cut before', 2)
    t.strictSame(await create(), { outcome: 'datastore_unavailable', stored: 0 }, 'not a second time')
    t.equal(seen(/^start transaction/), 2)
  })

  await t.test('once COMMIT was sent: never again, and it is said that nobody knows', async t => {
    meet(/^commit/, 'cut before')
    t.strictSame(await create(), { outcome: 'datastore_outcome_unknown', stored: 0 }, 'it did not arrive')
    t.equal(seen(/^start transaction/), 1)
    meet(/^commit/, 'cut after')
    t.strictSame(await create(), { outcome: 'datastore_outcome_unknown', stored: 1 }, 'it did')
    t.equal(seen(/^start transaction/), 1)
    await store.leases.acquire('counted', 'one', 1_000)
    meet(/^commit/, 'cut after')
    await t.rejects(store.leases.acquire('counted', 'two', 1_000, { seize: true }), { code: 'datastore_outcome_unknown' })
    t.match(await store.leases.get('counted'), { holder: 'two', token: 2 }, 'counted once')
  })

  await t.test('a read or a snapshot: it is read again, and nobody notices', async t => {
    await create()
    const cursor = await store.log.head()
    await create()
    const reads: Record<string, [RegExp, () => Promise<unknown>]> = {
      'a row': [/from "entries"/, () => store.entries.get(`n${last}`)],
      'the head of the log': [/"log_head"/, () => store.log.head()],
      'a snapshot that begins': [/^start transaction/, () => store.log.read(cursor)],
      'a snapshot': [/from "change_log"/, () => store.log.read(cursor)],
      'a snapshot that ends': [/^commit/, () => store.log.read(cursor)]
    }
    for (const [name, [which, read]] of Object.entries(reads)) {
      const expected = await read()
      t.ok(expected)
      for (const fate of ['cut before', 'cut after'] as const) {
        meet(which, fate)
        t.strictSame(await read(), expected, `${name}, ${fate}`)
        t.ok(seen(which) >= 2)
      }
      meet(which, 'cut after', 2)
      await t.rejects(read(), { code: 'datastore_unavailable' }, `${name}, twice`)
    }
    proxy.fate = () => 'pass'
  })

  await t.test('while it is idle: the next statement has a new one', async t => {
    await Promise.all(Array.from({ length: 5 }, () => store.ping()))
    await executeSql(url, 'select pg_terminate_backend(pid) from pg_stat_activity where application_name = \'assay\'')
    t.strictSame(await create(), { outcome: 'created', stored: 1 })
    await Promise.all(Array.from({ length: 10 }, () => store.ping()))
  })

  await t.test('anywhere: a change is made once, not at all, or perhaps', async t => {
    await store.entries.createMany([draft('counted', { id: 'counted' })])
    const where = fc.record({
      at: fc.nat({ max: 9 }), fate: fc.constantFrom<Fate>('cut before', 'cut after'), times: fc.integer({ min: 1, max: 2 })
    })
    let made = 0
    await holds(t, 'counted by the revision of the entry', fc.asyncProperty(where, async ({ at, fate, times }) => {
      let n = 0
      proxy.fate = () => n++ >= at && n <= at + times ? fate : 'pass'
      const outcome = await store.entries.updateMany([{ id: 'counted', change: { hint: `h${made}` } }]).then(() => 'made', codeOf)
      proxy.fate = () => 'pass'
      const [{ revision_number: stored } = {}] = await executeSql(url, 'select revision_number from entries where id = \'counted\'')
      const revision = Number(stored)
      const grown = revision - made
      made = revision
      return { made: grown === 1, datastore_unavailable: grown === 0, datastore_outcome_unknown: grown <= 1 }[outcome as string] === true
    }), 60)
    t.ok(made > 0)
    const all = await numbers()
    t.strictSame(all, all.map((_, index) => index + 1), 'and the log has no gap')
  })
})

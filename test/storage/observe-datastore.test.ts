import { join } from 'node:path'
import t from 'tap'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Took } from '../../src/runtime/took.ts'
import { codeOf } from '../../src/spiffe/errors.ts'
import { observeDatastore } from '../../src/storage/observe-datastore.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { everything } from '../../src/storage/page.ts'
import { ManualClock } from '../fakes/clock.ts'
import { makeDraft } from '../fakes/entries.ts'

void t.test('calls of a datastore are told of with their outcome, those of fenced stores too; the rest is as it was', async t => {
  const clock = new ManualClock()
  await using opened = await openDatastore(join(t.testdir(), 'db.sqlite3'), { clock, log: silentLogger })
  const told: string[] = []
  const store = observeDatastore(opened, method => {
    if (method === 'entries.get') return undefined
    return ({ durationMs, error }: Took) => { told.push(`${method} ${durationMs} ${codeOf(error) ?? 'ok'}`) }
  }, clock)
  t.equal(store.kind, 'sqlite')
  const [created] = await store.entries.createMany([makeDraft({ id: 'one' })])
  t.equal(created?.kind, 'created')
  t.equal((await store.entries.get('one'))?.id, 'one', 'one that nobody asks about')
  t.equal((await store.entries.list({}, everything)).entries.length, 1)
  await t.rejects(store.joinTokens.check('unknown', clock.now()), { code: 'join_token_invalid' })
  const lease = await store.leases.acquire('chores', 'me', 10_000)
  await store.leases.fenced('chores', lease).joinTokens.prune(clock.now())
  await store.leases.acquire('chores', 'another', 10_000, { seize: true })
  await t.rejects(store.leases.fenced('chores', lease).joinTokens.prune(clock.now()), { code: 'lease_lost' })
  t.strictSame(told, [
    'entries.createMany 0 ok', 'entries.list 0 ok', 'joinTokens.check 0 join_token_invalid', 'joinTokens.prune 0 ok',
    'joinTokens.prune 0 lease_lost'
  ])
  const ids: string[] = []
  for await (const { id } of opened.entries.all()) ids.push(id)
  for await (const { id } of observeDatastore(opened, () => undefined, clock).entries.all()) ids.push(id)
  t.strictSame(ids, ['one', 'one'], 'streams go through')
  t.equal(store.log.nudged, opened.log.nudged, 'so do properties')
  await store.ping()
})

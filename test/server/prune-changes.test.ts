import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import { createJoinToken } from '../fakes/agent-client.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'

const minute = 60_000

void t.test('prune_events_older_than: changes are kept as long as is wanted', async t => {
  const clock = new ManualClock(new Date())
  await using server = await startTestServer({ clock, config: { changesKeptMs: 12 * minute } })
  const database = new DatabaseSync(server.config.datastoreUrl, { readOnly: true })
  t.teardown(() => database.close())
  const count = () => Number(database.prepare('select count(*) as count from change_log').get()?.['count'])
  await createJoinToken(server, { trustDomain: 'example.org', path: '/node/one' })
  t.ok(count() > 0, 'what was done is in the log')
  // Chores look every five minutes: twice before it is time.
  for (let passed = 0; passed < 11; passed++) await clock.advance(minute)
  t.ok(count() > 0)
  let passed = 11
  await eventually('it is forgotten, and an hour has not passed', async () => {
    if (passed++ < 50) await clock.advance(minute)
    return count() === 0
  }, 60_000)
})

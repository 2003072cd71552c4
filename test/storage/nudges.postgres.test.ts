import t, { type Test } from 'tap'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Replica } from '../../src/server/replication/replica.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import type { Datastore } from '../../src/storage/datastore.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { eventually } from '../fakes/eventually.ts'
import { executeSql, postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startPostgresProxy } from '../fakes/postgres-proxy.ts'
import { openTestReplica } from '../fakes/replica.ts'
import { draft } from './fixture.ts'

const skip = postgresMissing()
if (skip !== false) t.comment(`skipped: ${skip}`)
const trustDomain = parseTrustDomain('example.org')

interface Running {
  readonly store: Datastore
  readonly replica: Replica
  /** Ends the replica. @returns how long it took, ms */
  readonly stop: () => Promise<number>
}

/** A replica that follows, and listens by way of `directUrl`. */
async function follow (t: Test, url: string, directUrl = url): Promise<Running> {
  const store = await openDatastore(url, { clock: systemClock, log: silentLogger, directUrl })
  const replica = await openTestReplica(store, trustDomain, systemClock)
  const stop = new AbortController()
  const running = replica.run(stop.signal)
  const end = async () => {
    const started = performance.now()
    stop.abort(new Error('done'))
    await running
    return performance.now() - started
  }
  t.teardown(async () => {
    await end()
    await store[Symbol.asyncDispose]()
  })
  return { store, replica, stop: end }
}

/** How long it takes until what one writes is shown by the other, ms. */
async function propagate (from: Running, to: Running, id: string): Promise<number> {
  await from.store.entries.createMany([draft(id, { id })])
  const started = performance.now()
  await eventually('it is shown', () => to.replica.registry.get(id) !== undefined)
  return performance.now() - started
}

void t.test('nudges on PostgreSQL', { skip }, async t => {
  await using cluster = await startPostgres()

  await t.test('a pooler swallows them: it is noticed within seconds, changes come by polling, until nudges come again', async t => {
    const url = await cluster.createSchema()
    await using proxy = await startPostgresProxy(cluster)
    const writer = await follow(t, url)
    const reader = await follow(t, url, proxy.through(url))
    await eventually('nudges are proved', () => reader.replica.nudged && writer.replica.nudged)
    await propagate(writer, reader, 'nudged')
    proxy.swallowNotifications = true
    const swallowed = performance.now()
    await eventually('it is noticed', () => !reader.replica.nudged)
    t.ok(performance.now() - swallowed < 20_000)
    await eventually('it is by whom it concerns alone', () => writer.replica.nudged && !reader.replica.nudged)
    for (let n = 0; n < 5; n++) t.ok(await propagate(writer, reader, `polled${n}`) < 10_000, 'shown all the same')
    proxy.swallowNotifications = false
    await eventually('nudges are proved again', () => reader.replica.nudged)
    await propagate(writer, reader, 'nudged-again')
  })

  await t.test('a connection that is killed is replaced', async t => {
    const url = await cluster.createSchema()
    const writer = await follow(t, url)
    const reader = await follow(t, url)
    await eventually('nudges are proved', () => reader.replica.nudged && writer.replica.nudged)
    const listening = async () => (await executeSql(cluster.url,
      'select pid from pg_stat_activity where application_name = \'assay-listen\'')).map(({ pid }) => pid)
    let before: unknown[] = []
    // Of those that were ended before, PostgreSQL may show some for a moment.
    await eventually('these two alone listen', async () => (before = await listening()).length === 2)
    await executeSql(cluster.url, 'select pg_terminate_backend(pid) from pg_stat_activity where application_name = \'assay-listen\'')
    await eventually('there are others', async () => {
      const now = await listening()
      return now.length === before.length && now.every(pid => !before.includes(pid))
    })
    let nudges = 0
    reader.store.log.onNudge(() => { nudges++ })
    let writes = 0
    await eventually('they tell of changes', async () => {
      await writer.store.keys.put('k', Uint8Array.of(++writes))
      return nudges > 0
    })
    await propagate(writer, reader, 'after')
    t.ok(nudges > 0 && reader.replica.registry.get('after') !== undefined)
  })

  await t.test('a connection that fell silent without a word is given up, and does not hold up the end', async t => {
    const url = await cluster.createSchema()
    await using proxy = await startPostgresProxy(cluster)
    const reader = await follow(t, url, proxy.through(url))
    await eventually('nudges are proved', () => reader.replica.nudged)
    proxy.silenceOpen()
    await eventually('it is noticed', () => !reader.replica.nudged)
    await eventually('another one is made', () => reader.replica.nudged, 30_000)
    proxy.silenceOpen()
    t.ok(await reader.stop() < 12_000, 'ends before a statement that gets no answer is given up')
  })
})

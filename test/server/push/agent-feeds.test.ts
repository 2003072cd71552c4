import t from 'tap'
import type { Entry } from '../../../src/spiffe/entry.ts'
import { SpiffeError } from '../../../src/spiffe/errors.ts'
import type { Cursor } from '../../../src/storage/change-log.ts'
import { makeAgent } from '../../fakes/agents.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { idOf, makeEntry, type EntryOptions } from '../../fakes/entries.ts'
import { ModelDatabase } from '../../fakes/model-database.ts'
import { FollowingAgent, openPushReplica, type PushReplica } from '../../fakes/push.ts'
import { ProgressReporter } from '../../../src/server/push/progress-reporter.ts'
import { silentLogger } from '../../../src/runtime/logger.ts'
import { nodes, one, openRig, own, two } from '../../fakes/feed-rig.ts'

function put (...entries: EntryOptions[]): ReadonlyMap<string, Entry> {
  return new Map(entries.map(options => [options.id ?? '', makeEntry(options)]))
}

void t.test('each stream hears of its own agent', async t => {
  const { replicas, commit } = await openRig(1)
  const [here] = replicas as readonly [PushReplica]
  const [a, b] = [new FollowingAgent(one, own), new FollowingAgent(two, own)]
  await a.connect(here)
  await b.connect(here)
  t.match([a.take(), b.take()], [{ snapshot: true }, { snapshot: true }])
  await commit({ entries: put({ id: '1', parentId: one }, { id: '2', parentId: two }) })
  t.strictSame([a.take()?.entries.map(({ id }) => id), b.take()?.entries.map(({ id }) => id)], [['1'], ['2']])
  await commit({ entries: put({ id: '2', parentId: one }) })
  t.strictSame([a.take()?.entries.map(({ id }) => id), b.take()?.removedEntryIds], [['2'], ['2']], 'a move is a loss and a gain')
  await commit({ agents: new Map([[one, makeAgent(one, { serialNumber: 'b2' })]]) })
  t.strictSame([a.take(), b.take()], [undefined, undefined], 'a renewed SVID changes no entries')
  t.equal(here.feeds.size, 2)
  a.disconnect()
  t.strictSame([here.feeds.size, here.feeds.openOf(one), here.feeds.openOf(two)], [1, 0, 1])
  b.disconnect()
  b.disconnect()
  t.equal(here.feeds.size, 0)
})

void t.test('an agent that comes back, here or elsewhere, is told what it missed', async t => {
  const { database, replicas, commit } = await openRig(2)
  const [here, there] = replicas as readonly [PushReplica, PushReplica]
  const agent = new FollowingAgent(one, own)
  await commit({ entries: put({ id: 'kept', parentId: one }, { id: 'gone', parentId: one }) })
  await agent.connect(here)
  agent.take()
  agent.disconnect()
  await commit({ entries: new Map([['gone', undefined]]) })
  await commit({ entries: put({ id: 'new', parentId: one }) })
  await agent.connect(there)
  const step = agent.take()
  t.match(step, { snapshot: false, removedEntryIds: ['gone'] })
  t.strictSame(step?.entries.map(({ id }) => id), ['new'])
  t.equal(agent.take(), undefined)
  await commit({ entries: put({ id: 'newer', parentId: one }) })
  await agent.connect(await openPushReplica(database.storeFor(), own))
  t.match(agent.take(), { snapshot: true }, 'everything, where a replica does not remember what came before')
  t.strictSame(agent.ids, ['kept', 'new', 'newer'])
})

void t.test('an agent that knows more than a replica is not led back', async t => {
  const { database, replicas } = await openRig(2)
  const [here, behind] = replicas as readonly [PushReplica, PushReplica]
  const agent = new FollowingAgent(one, own)
  database.commit({ entries: put({ id: 'short', parentId: one }, { id: 'kept', parentId: one }) })
  await here.replica.catchUp()
  await agent.connect(here)
  agent.take()
  t.strictSame(agent.ids, ['kept', 'short'])
  await agent.connect(behind)
  t.equal(behind.replica.cursor.number, database.head.number, 'the replica looked first')
  agent.take()
  t.strictSame(agent.ids, ['kept', 'short'])
})

void t.test('what came and went in one step of a replica is dropped by an agent that got it in between elsewhere', async t => {
  const { database, replicas } = await openRig(2)
  const [here, behind] = replicas as readonly [PushReplica, PushReplica]
  const agent = new FollowingAgent(one, own)
  database.commit({ entries: put({ id: 'short', parentId: one }) })
  await here.replica.catchUp()
  await agent.connect(here)
  agent.take()
  t.strictSame(agent.ids, ['short'])
  agent.disconnect()
  database.commit({ entries: new Map([['short', undefined]]) })
  await behind.replica.catchUp()
  await agent.connect(behind)
  agent.take()
  t.strictSame(agent.ids, [])
})

void t.test('a replica that cannot look sends an agent that knows more to another one', async t => {
  const database = new ModelDatabase()
  let obstacle: Error | undefined
  const behind = await openPushReplica(database.storeFor(async statement => {
    if (obstacle !== undefined) throw obstacle
    return statement()
  }), own)
  obstacle = new SpiffeError('datastore_unavailable', 'away')
  await t.rejects(behind.feeds.open(one, { ...database.head, number: 9 }), { code: 'datastore_unavailable' })
  t.equal(behind.feeds.size, 0)
  const feed = await behind.feeds.open(one, behind.replica.cursor)
  t.equal(feed.next()?.snapshot, false, 'who knows no more is served all the same')
})

void t.test('a new epoch: who stands in the old one is told everything, who is connected what differs, and where it stands', async t => {
  const { database, replicas, commit } = await openRig(1)
  const [here] = replicas as readonly [PushReplica]
  await commit({ entries: put({ id: 'a', parentId: one }) })
  const backup = database.committed
  const [connected, idle, away] = [new FollowingAgent(one, own), new FollowingAgent(two, own), new FollowingAgent(one, own)]
  for (const agent of [connected, idle, away]) {
    await agent.connect(here)
    agent.take()
  }
  away.disconnect()
  await commit({ entries: put({ id: 'b', parentId: one }) })
  connected.take()
  database.setBack(backup, 'e1')
  await here.replica.catchUp()
  t.match(connected.take(), { snapshot: false, removedEntryIds: ['b'], cursor: { epoch: 'e1', number: backup.number } })
  t.match(idle.take(), { snapshot: false, entries: [], cursor: { epoch: 'e1' } }, 'numbers of the old one would mean nothing')
  await away.connect(here)
  t.match(away.take(), { snapshot: true })
  t.strictSame([connected.ids, away.ids], [['a'], ['a']])
})

void t.test('a change that touches very many wakes them a few at a time', async t => {
  const database = new ModelDatabase()
  const ids = Array.from({ length: 500 }, (_, n) => idOf(`/spire/agent/x/${n}`))
  database.commit({
    agents: new Map(ids.map(id => [id, makeAgent(id, { selectors: [{ type: 'x', value: 'fleet' }] })])),
    entries: put({ id: 'alias', spiffeId: '/fleet', parentId: '/spire/server', selectors: ['x:fleet'] })
  })
  const { replica, feeds } = await openPushReplica(database.storeFor(), own)
  const stop = new AbortController()
  let woken = 0
  for (const id of ids) {
    const feed = await feeds.open(id, undefined)
    feed.next()
    void feed.untilTouched(stop.signal).then(() => { if (feed.next()?.entries.length === 1) woken++ })
  }
  database.commit({ entries: put({ id: 'shared', parentId: '/fleet' }) })
  await replica.catchUp()
  const seen: number[] = []
  while (woken < ids.length && seen.length < 1_000) {
    seen.push(woken)
    await new Promise(resolve => setImmediate(resolve))
  }
  t.equal(woken, ids.length, 'each has what there is')
  t.ok(seen.length > 10, 'others had their turns in between')
  t.ok((seen[1] as number) > 0, 'and the first did not wait')
  stop.abort(new Error('done'))
})

void t.test('streams end when the view is too old, and say how far idle agents are', async t => {
  const database = new ModelDatabase()
  const clock = new ManualClock()
  database.commit({ agents: new Map(nodes.map(id => [id, makeAgent(id)])) })
  let obstacle: Error | undefined
  const turn = async <T>(statement: () => T) => {
    if (obstacle !== undefined) throw obstacle
    return statement()
  }
  const { replica, feeds } = await openPushReplica(database.storeFor(turn), own, clock)
  const reported: Array<[string, Cursor]> = []
  const store = { report: async () => {}, leave: async () => {}, list: async () => [], prune: async () => {} }
  const reporter = new ProgressReporter('r1', { store, clock, log: silentLogger })
  const report = reporter.report.bind(reporter)
  reporter.report = (agent, progress) => {
    reported.push([agent, progress.cursor])
    report(agent, progress)
  }
  const stop = new AbortController()
  const running = Promise.all([feeds.run(reporter, clock, stop.signal), replica.run(stop.signal)].map(task => task.catch(() => {})))
  const [idle, silent] = [new FollowingAgent(one, own), new FollowingAgent(two, own)]
  for (const agent of [idle, silent]) await agent.connect({ feeds })
  for (const agent of [idle, silent]) agent.take()
  idle.acknowledge()
  database.commit({ entries: put({ id: 'others', parentId: nodes[2] as string }) })
  await clock.advance(5_000)
  t.strictSame(reported, [[one, database.head]], 'who acknowledged has what does not concern it; who did not is not spoken for')
  t.strictSame([feeds.progressOf(one)?.cursor, feeds.progressOf(two)], [database.head, undefined])
  await clock.advance(10_000)
  t.equal(reported.length, 1, 'said once')
  obstacle = new SpiffeError('datastore_unavailable', 'away')
  await clock.advance(9_000)
  t.doesNotThrow(() => idle.take())
  await clock.advance(3_000)
  t.throws(() => idle.take(), { code: 'replica_stale' })
  stop.abort(new Error('done'))
  await running
})

import { join } from 'node:path'
import t, { type Test } from 'tap'
import { silentLogger } from '../../../src/runtime/logger.ts'
import { Convergence, type ConvergenceQuestion } from '../../../src/server/push/convergence.ts'
import { Polls } from '../../../src/server/push/polls.ts'
import { ProgressReporter } from '../../../src/server/push/progress-reporter.ts'
import type { SpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../../src/spiffe/trust-domain.ts'
import type { Cursor } from '../../../src/storage/change-log.ts'
import type { Datastore } from '../../../src/storage/datastore.ts'
import type { EntryUpdate } from '../../../src/storage/entry-store.ts'
import { openDatastore } from '../../../src/storage/open-datastore.ts'
import { makeAgent } from '../../fakes/agents.ts'
import { ManualClock, settle } from '../../fakes/clock.ts'
import { idOf, makeDraft, testDomain, type EntryOptions } from '../../fakes/entries.ts'
import { FollowingAgent, openPushReplica, type PushReplica } from '../../fakes/push.ts'

const own = parseTrustDomain(testDomain)
const nodes = ['one', 'two', 'three'].map(name => idOf(`/spire/agent/join_token/${name}`))
const [one, two, three] = nodes as [SpiffeId, SpiffeId, SpiffeId]
const liveReplicaMs = 15_000
const livePollerMs = 30_000

type Asked = ConvergenceQuestion & { readonly since: Cursor }

/** A replica on SQLite that asks, and what another one, elsewhere, has written about its agents. */
class Rig {
  readonly clock = new ManualClock()
  readonly store: Datastore
  readonly here: PushReplica
  readonly #convergence: Convergence

  private constructor (store: Datastore, here: PushReplica, clock: ManualClock) {
    this.store = store
    this.here = here
    this.clock = clock
    this.#convergence = new Convergence({
      replicaId: 'here', replica: here.replica, feeds: here.feeds, progress: store.progress, replicas: store.replicas, clock
    })
  }

  static async open (t: Test, agents: readonly SpiffeId[] = [one, two]): Promise<Rig> {
    const clock = new ManualClock()
    const store = await openDatastore(join(t.testdir(), 'datastore.sqlite3'), { clock, log: silentLogger })
    t.teardown(() => store[Symbol.asyncDispose]())
    for (const id of agents) await store.agents.attest(makeAgent(id))
    return new Rig(store, await openPushReplica(store, own, clock), clock)
  }

  /** @returns where the log stood before and stands after, and the ids */
  async create (...entries: EntryOptions[]): Promise<Asked> {
    return await this.#change(entries.map(({ id = '' }) => id), () => this.store.entries.createMany(entries.map(makeDraft)))
  }

  async update (id: string, change: EntryUpdate['change']): Promise<Asked> {
    return await this.#change([id], () => this.store.entries.updateMany([{ id, change }]))
  }

  async remove (...ids: string[]): Promise<Asked> {
    return await this.#change(ids, () => this.store.entries.deleteMany(ids))
  }

  async state (question: ConvergenceQuestion): Promise<{ converged: boolean, of: Record<string, string>, unserved: string[] }> {
    const { converged, consumers } = await this.#convergence.state(question)
    const of = Object.fromEntries(consumers.map(({ agentId, state }) => [agentId.split('/').at(-1), state]))
    return { converged, of, unserved: consumers.flatMap(({ unservedEntryIds }) => unservedEntryIds) }
  }

  /** Another replica says how far an agent is; a replica that lives says so every now and then. */
  async elsewhere (agentId: SpiffeId, cursor: Cursor, state: 'acknowledged' | 'written' | 'inferred' = 'acknowledged'): Promise<void> {
    await this.replicaLives()
    await this.store.progress.report([{ agentId, replicaId: 'other', state, cursor, unservedEntryIds: [], seenAt: this.clock.now() }])
  }

  async replicaLives (): Promise<void> {
    const cursor = this.here.replica.cursor
    await this.store.replicas.report({ id: 'other', name: 'h', version: '1', startedAt: this.clock.now(), cursor, facts: {} })
  }

  async follow (id: SpiffeId): Promise<FollowingAgent> {
    const agent = new FollowingAgent(id, own)
    await agent.connect(this.here)
    agent.take()
    agent.acknowledge()
    return agent
  }

  async #change (entryIds: readonly string[], write: () => Promise<unknown>): Promise<Asked> {
    await this.here.replica.catchUp()
    const since = this.here.replica.cursor
    await write()
    await this.here.replica.catchUp()
    return { since, cursor: this.here.replica.cursor, entryIds }
  }
}

void t.test('an agent here has a change once it acknowledged it; only those whom it concerns count', async t => {
  const rig = await Rig.open(t)
  const [a, b] = [await rig.follow(one), await rig.follow(two)]
  const created = await rig.create({ id: 'a', parentId: one })
  t.strictSame(await rig.state(created), { converged: false, of: { one: 'waiting' }, unserved: [] })
  a.take()
  t.strictSame(await rig.state(created), { converged: false, of: { one: 'waiting' }, unserved: [] }, 'told is not taken over')
  a.acknowledge()
  t.strictSame(await rig.state(created), { converged: true, of: { one: 'acknowledged' }, unserved: [] })
  t.strictSame(await rig.state({ ...created, since: undefined }), { converged: true, of: { one: 'acknowledged' }, unserved: [] })
  t.strictSame(await rig.state({ cursor: created.cursor, entryIds: [] }),
    { converged: true, of: { one: 'acknowledged', two: 'acknowledged' }, unserved: [] }, 'without entries: everybody')
  const next = await rig.update('a', { hint: 'new' })
  a.take()
  a.acknowledge(['a'])
  t.strictSame(await rig.state(next), { converged: true, of: { one: 'acknowledged' }, unserved: ['a'] }, 'has it, but for one')
  b.disconnect()
})

void t.test('who loses an entry must have dropped it', async t => {
  const rig = await Rig.open(t)
  const [a, b] = [await rig.follow(one), await rig.follow(two)]
  await rig.create({ id: 'a', parentId: one })
  for (const agent of [a, b]) {
    agent.take()
    agent.acknowledge()
  }
  const moved = await rig.update('a', { parentId: two })
  t.strictSame((await rig.state(moved)).of, { one: 'waiting', two: 'waiting' })
  b.take()
  b.acknowledge()
  t.strictSame(await rig.state(moved), { converged: false, of: { one: 'waiting', two: 'acknowledged' }, unserved: [] })
  a.take()
  a.acknowledge()
  t.ok((await rig.state(moved)).converged)
  const removed = await rig.remove('a')
  t.strictSame(await rig.state(removed), { converged: false, of: { two: 'waiting' }, unserved: [] })
  t.strictSame((await rig.state({ ...removed, since: undefined })).of, { one: 'acknowledged', two: 'waiting' },
    'without knowing who had it, everybody counts')
  b.take()
  b.acknowledge()
  t.ok((await rig.state(removed)).converged)
})

void t.test('where this replica does not know who was concerned, everybody counts', async t => {
  const rig = await Rig.open(t)
  const a = await rig.follow(one)
  const { since } = await rig.create({ id: 'a', parentId: one })
  a.take()
  a.acknowledge()
  await rig.follow(two)
  await rig.store.entries.createMany([makeDraft({ id: 'b', parentId: two })])
  await rig.store.entries.deleteMany(['b'])
  await rig.here.replica.catchUp()
  const { cursor } = rig.here.replica
  const between = { epoch: cursor.epoch, number: cursor.number - 1 }
  t.strictSame((await rig.state({ since: between, cursor, entryIds: ['b'] })).of, { one: 'acknowledged', two: 'acknowledged' },
    'in the middle of a step: another replica may have told somebody of it')
  t.strictSame((await rig.state({ since, cursor: between, entryIds: ['a'] })).of, { one: 'acknowledged' })
  t.strictSame((await rig.state({ since: { ...since, epoch: 'old' }, cursor, entryIds: ['a'] })).of,
    { one: 'acknowledged', two: 'acknowledged' })
})

void t.test('agents of other replicas, as those report them', async t => {
  const rig = await Rig.open(t)
  const before = rig.here.replica.cursor
  await rig.elsewhere(one, before)
  const created = await rig.create({ id: 'a', parentId: one })
  t.strictSame(await rig.state(created), { converged: false, of: { one: 'waiting' }, unserved: [] })
  await rig.elsewhere(one, created.cursor)
  t.strictSame(await rig.state(created), { converged: true, of: { one: 'acknowledged' }, unserved: [] })
  const next = await rig.update('a', { hint: 'new' })
  await rig.clock.advance(liveReplicaMs - 1)
  t.strictSame((await rig.state(next)).of, { one: 'waiting' })
  await rig.clock.advance(1)
  t.strictSame(await rig.state(next), { converged: true, of: { one: 'absent' }, unserved: [] }, 'its replica is down: nothing waits for it')
  t.strictSame((await rig.state(created)).of, { one: 'acknowledged' }, 'what it had it has')
  await rig.elsewhere(one, { epoch: 'older', number: 1_000 })
  t.strictSame((await rig.state(next)).of, { one: 'waiting' }, 'a number of another epoch says nothing')
  await rig.store.progress.leave('other', rig.clock.now(), [one])
  t.strictSame((await rig.state(next)).of, { one: 'waiting' }, 'it left, and is on its way to another replica')
  await rig.clock.advance(liveReplicaMs)
  t.strictSame((await rig.state(next)).of, { one: 'absent' }, 'or gone')
})

void t.test('an agent never seen is absent; one that connected and said nothing yet is waited for', async t => {
  const rig = await Rig.open(t)
  const created = await rig.create({ id: 'a', parentId: one }, { id: 'b', parentId: two, spiffeId: '/b' })
  t.strictSame(await rig.state(created), { converged: true, of: { one: 'absent', two: 'absent' }, unserved: [] })
  const agent = new FollowingAgent(one, own)
  await agent.connect(rig.here)
  t.strictSame(await rig.state(created), { converged: false, of: { one: 'waiting', two: 'absent' }, unserved: [] })
  agent.take()
  agent.acknowledge()
  t.ok((await rig.state(created)).converged)
  agent.disconnect()
  t.strictSame((await rig.state(await rig.update('a', { hint: 'x' }))).of, { one: 'absent' })
})

void t.test('an agent that polls: what it was answered is written, what a later call proves is inferred', async t => {
  const rig = await Rig.open(t)
  const reporter = new ProgressReporter('here', { store: rig.store.progress, clock: rig.clock, log: silentLogger })
  const stop = new AbortController()
  const running = reporter.run(stop.signal).catch(() => {})
  const polls = new Polls(reporter, () => rig.here.replica.cursor)
  const poll = async (agent: SpiffeId) => {
    polls.answered(agent)
    await settle()
    await rig.clock.advance(50)
  }
  await poll(one)
  const created = await rig.create({ id: 'a', parentId: one })
  t.strictSame((await rig.state(created)).of, { one: 'waiting' })
  await poll(one)
  t.strictSame((await rig.state(created)).of, { one: 'waiting' }, 'this call proves only what the one before was answered')
  await poll(one)
  t.strictSame(await rig.state(created), { converged: true, of: { one: 'inferred' }, unserved: [] })
  await poll(two)
  const other = await rig.create({ id: 'b', parentId: two, spiffeId: '/b' })
  await rig.clock.advance(livePollerMs)
  t.strictSame(await rig.state(other), { converged: true, of: { two: 'absent' }, unserved: [] }, 'it stopped calling')
  await poll(three)
  stop.abort(new Error('done'))
  await running
  t.match(await rig.store.progress.list([three]), [{ state: 'written', replicaId: 'here' }])
})

void t.test('a first answer to an agent that polls is written, not more', async t => {
  const rig = await Rig.open(t)
  const created = await rig.create({ id: 'a', parentId: one })
  await rig.elsewhere(one, created.cursor, 'written')
  t.strictSame(await rig.state(created), { converged: false, of: { one: 'written' }, unserved: [] })
  await rig.elsewhere(one, created.cursor, 'inferred')
  t.ok((await rig.state(created)).converged)
})

import fc from 'fast-check'
import t from 'tap'
import { Registry } from '../../../src/server/registry.ts'
import type { Agent } from '../../../src/spiffe/agent.ts'
import type { Bundle } from '../../../src/spiffe/bundle.ts'
import type { Entry } from '../../../src/spiffe/entry.ts'
import type { Revocation } from '../../../src/spiffe/revocation.ts'
import { SpiffeError } from '../../../src/spiffe/errors.ts'
import { parseTrustDomain, type TrustDomain } from '../../../src/spiffe/trust-domain.ts'
import type { Cursor } from '../../../src/storage/change-log.ts'
import { makeAgent } from '../../fakes/agents.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { idOf, makeEntry, testDomain, type EntryOptions } from '../../fakes/entries.ts'
import { holds } from '../../fakes/holds.ts'
import { ModelDatabase, type Committed, type ModelChange } from '../../fakes/model-database.ts'
import { FollowingAgent, openPushReplica, type PushReplica } from '../../fakes/push.ts'
import { ProgressReporter } from '../../../src/server/push/progress-reporter.ts'
import { silentLogger } from '../../../src/runtime/logger.ts'

const own = parseTrustDomain(testDomain)
const [x, y] = ['x.test', 'y.test'].map(parseTrustDomain) as [TrustDomain, TrustDomain]
const nodes = ['one', 'two', 'three'].map(name => idOf(`/spire/agent/join_token/${name}`))
const [one, two] = nodes as [Agent['id'], Agent['id']]

function put (...entries: EntryOptions[]): ReadonlyMap<string, Entry> {
  return new Map(entries.map(options => [options.id ?? '', makeEntry(options)]))
}

function bundle (trustDomain: TrustDomain, sequenceNumber: number): Bundle {
  return { trustDomain, sequenceNumber: BigInt(sequenceNumber), x509Authorities: [], jwtAuthorities: [] }
}

interface Rig {
  readonly database: ModelDatabase
  readonly replicas: readonly PushReplica[]
  readonly commit: (change: ModelChange) => Promise<void>
}

async function openRig (count: number): Promise<Rig> {
  const database = new ModelDatabase()
  database.commit({ agents: new Map(nodes.map(id => [id, makeAgent(id)])), bundles: new Map([own, x, y].map(d => [d, bundle(d, 1)])) })
  const replicas = await Promise.all(Array.from({ length: count }, () => openPushReplica(database.storeFor(), own)))
  return {
    database,
    replicas,
    commit: async change => {
      database.commit(change)
      for (const { replica } of replicas) await replica.catchUp()
    }
  }
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

/** What an agent must hold at a place of the log; `undefined` when it is not attested there. */
function dueAt ({ entries, agents, bundles, revocations }: Committed, id: Agent['id']): unknown {
  const agent = agents.get(id)
  if (agent === undefined) return undefined
  const registry = new Registry(own)
  const revokedIds = new Set([...revocations.values()].flatMap(({ kind, subject }) => kind === 'spiffe_id' ? [subject] : []))
  registry.apply({ entries, agents: new Map(), revokedIds })
  const due = registry.authorizedEntries(agent)
  const domains = [own, ...due.flatMap(entry => entry.federatesWith)]
  return {
    entries: new Map(due.map(entry => [entry.id, entry])),
    bundles: new Map([...new Set(domains)].toSorted().flatMap(domain => bundles.get(domain) ?? [])
      .map(found => [found.trustDomain, found])),
    revocations: new Map([...revocations].toSorted(([a], [b]) => a < b ? -1 : 1))
  }
}

function heldBy ({ entries, bundles, revocations }: FollowingAgent): unknown {
  const sorted = <K, V>(map: ReadonlyMap<K, V>) => new Map([...map].toSorted(([a], [b]) => a < b ? -1 : 1))
  return { entries: sorted(entries), bundles: sorted(bundles), revocations: sorted(revocations) }
}

type Action =
  | { readonly kind: 'entries', readonly of: ReadonlyArray<readonly [string, EntryOptions | undefined]> }
  | { readonly kind: 'agent', readonly agent: number, readonly selectors: readonly string[] | undefined }
  | { readonly kind: 'bundle', readonly domain: TrustDomain, readonly remove: boolean }
  | { readonly kind: 'revocation', readonly id: string, readonly of: 'svid' | 'spiffe_id' | 'node' | undefined, readonly path: string }
  | { readonly kind: 'catchUp' | 'everything' | 'compact' | 'restore', readonly replica: number }
  | { readonly kind: 'connect', readonly agent: number, readonly replica: number }
  | { readonly kind: 'disconnect' | 'take' | 'forget', readonly agent: number }

const replicaCount = 3
const paths = ['/a', '/b', '/c']
const entryIds = ['1', '2', '3', '4', '5', '6']
const anEntry: fc.Arbitrary<EntryOptions> = fc.record({
  spiffeId: fc.constantFrom(...paths),
  parentId: fc.constantFrom(...paths, '/spire/server', ...nodes),
  selectors: fc.subarray(['x:a', 'x:b', `spiffe_id:${one}`], { minLength: 1 }),
  federatesWith: fc.subarray([x, y])
})
const agent = fc.nat(nodes.length - 1)
const replica = fc.nat(replicaCount - 1)
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 8, arbitrary: fc.record({
    kind: fc.constant('entries' as const),
    of: fc.array(fc.tuple(fc.constantFrom(...entryIds), fc.option(anEntry, { nil: undefined })), { minLength: 1, maxLength: 3 })
  }) },
  { weight: 2, arbitrary: fc.record({
    kind: fc.constant('agent' as const), agent, selectors: fc.option(fc.subarray(['x:a', 'x:b']), { nil: undefined, freq: 8 })
  }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('bundle' as const), domain: fc.constantFrom(own, x, y), remove: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({
    kind: fc.constant('revocation' as const), id: fc.constantFrom('r', 's', 't'),
    of: fc.constantFrom('svid' as const, 'spiffe_id' as const, 'node' as const, undefined), path: fc.constantFrom(...paths)
  }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('catchUp' as const), replica }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('everything' as const, 'compact' as const, 'restore' as const), replica }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('connect' as const), agent, replica }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('disconnect' as const), agent }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('take' as const), agent }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('forget' as const), agent }) }
)

/** A database, its replicas and their agents, and all that the log ever said. */
class World {
  readonly database: ModelDatabase
  readonly agents = nodes.map(id => new FollowingAgent(id, own))
  readonly #replicas: readonly PushReplica[]
  readonly #history = new Map<string, Committed>()
  #made = 0

  private constructor (database: ModelDatabase, replicas: readonly PushReplica[]) {
    this.database = database
    this.#replicas = replicas
    this.#remember()
  }

  static async open (): Promise<World> {
    const { database, replicas } = await openRig(replicaCount)
    database.mostAtOnce = 2
    return new World(database, replicas)
  }

  async act (action: Action): Promise<void> {
    const { database } = this
    const replica = 'replica' in action ? this.#replicas[action.replica] as PushReplica : undefined
    const agent = 'agent' in action ? this.agents[action.agent] as FollowingAgent : undefined
    if (action.kind === 'entries') this.#commit({ entries: this.#entries(action.of) })
    else if (action.kind === 'agent') this.#commit({ agents: new Map([this.#attested(action.agent, action.selectors)]) })
    else if (action.kind === 'bundle') this.#commit(this.#bundleChange(action.domain, action.remove))
    else if (action.kind === 'revocation') this.#commit({ revocations: new Map([[action.id, this.#revocation(action)]]) })
    else if (action.kind === 'catchUp') await replica?.replica.catchUp()
    else if (action.kind === 'everything') this.#commit({ ...this.#bundleChange(own, false), everything: true })
    else if (action.kind === 'compact') database.compact(database.head.number - (this.#made % 3))
    else if (action.kind === 'restore') this.#restore()
    else if (action.kind === 'disconnect') agent?.disconnect()
    else if (agent !== undefined && replica !== undefined) await this.#connect(agent, replica)
    else if (agent !== undefined && action.kind === 'forget') this.#forget(agent)
    else if (agent !== undefined) this.take(agent)
  }

  /** What is told is the state at the place that is told, whole and nothing else. */
  take (agent: FollowingAgent): void {
    const step = agent.take()
    if (step === undefined) return
    const state = this.#history.get(placeOf(step.cursor))
    if (state === undefined) throw new Error(`the log was never at ${placeOf(step.cursor)}`)
    const due = dueAt(state, agent.id)
    // The stream of an agent that was evicted ends, and the agent attests anew.
    if (due === undefined) this.#forget(agent)
    else compare(heldBy(agent), due, `at ${placeOf(step.cursor)}`)
  }

  /** Everybody hears of everything in the end. */
  async settle (): Promise<void> {
    for (const [index, agent] of this.agents.entries()) {
      for (const { replica } of this.#replicas) await replica.catchUp()
      if (!agent.connected) await this.#connect(agent, this.#replicas[index % replicaCount] as PushReplica)
      this.take(agent)
      const due = dueAt(this.database.committed, agent.id)
      if (due !== undefined) compare(heldBy(agent), due, `${agent.id} at the end`)
    }
  }

  async #connect (agent: FollowingAgent, replica: PushReplica): Promise<void> {
    await agent.connect(replica)
  }

  #forget (agent: FollowingAgent): void {
    agent.disconnect()
    agent.cursor = undefined
    agent.entries = new Map()
    agent.bundles = new Map()
    agent.revocations = new Map()
  }

  #commit (change: ModelChange): void {
    this.database.commit(change)
    this.#remember()
  }

  #remember (): void { this.#history.set(placeOf(this.database.head), this.database.committed) }

  #restore (): void {
    const states = [...this.#history.values()]
    this.database.setBack(states[this.#made % states.length] as Committed, `e${++this.#made}`)
    this.#remember()
  }

  #entries (of: ReadonlyArray<readonly [string, EntryOptions | undefined]>): ReadonlyMap<string, Entry | undefined> {
    const known = (domain: TrustDomain) => this.database.committed.bundles.has(domain)
    return new Map(of.map(([id, options]) => [id, options && makeEntry({
      ...options, id, hint: String(++this.#made), federatesWith: options.federatesWith?.filter(known) ?? []
    })]))
  }

  #revocation ({ id, of: kind, path }: Extract<Action, { readonly kind: 'revocation' }>): Revocation | undefined {
    const at = new Date(++this.#made)
    return kind && { id, kind, subject: idOf(path), certificateDigests: [], reason: '', revokedBy: '', revokedAt: at, expiresAt: at }
  }

  #attested (index: number, values: readonly string[] | undefined): [Agent['id'], Agent | undefined] {
    const id = nodes[index] as Agent['id']
    const selectors = values?.map(text => ({ type: 'x', value: text.slice(2) }))
    return [id, selectors && makeAgent(id, { selectors, serialNumber: String(++this.#made) })]
  }

  /** Nothing federates with a domain that has no bundle. */
  #bundleChange (domain: TrustDomain, remove: boolean): ModelChange {
    if (!remove || domain === own) return { bundles: new Map([[domain, bundle(domain, ++this.#made + 1)]]) }
    const linked = [...this.database.committed.entries.values()].filter(entry => entry.federatesWith.includes(domain))
    const entries = new Map(linked.map((entry): [string, Entry] => [entry.id, {
      ...entry, revisionNumber: entry.revisionNumber + 1, federatesWith: entry.federatesWith.filter(other => other !== domain)
    }]))
    return { entries, bundles: new Map([[domain, undefined]]) }
  }
}

function placeOf ({ epoch, number }: Cursor): string { return `${epoch}/${number}` }

function compare (held: unknown, due: unknown, where: string): void {
  const text = (value: unknown) => JSON.stringify(value, (_, part: unknown) =>
    part instanceof Map ? [...part] : typeof part === 'bigint' ? String(part) : part)
  if (text(held) !== text(due)) throw new Error(`${where}: held ${text(held)}, due ${text(due)}`)
}

void t.test('an agent holds exactly its authorized entries', { timeout: 120_000 }, async t => {
  const history = fc.array(action, { minLength: 5, maxLength: 60, size: 'max' })
  await holds(t, 'for any history of changes, disconnects and resumes at other replicas, each with its own', fc.asyncProperty(history,
    async actions => {
      const world = await World.open()
      for (const action of actions) await world.act(action)
      await world.settle()
    }), 400)
})

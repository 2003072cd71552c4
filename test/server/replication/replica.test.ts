import t from 'tap'
import { parseBundleEndpointUrl } from '../../../src/spiffe/bundle-endpoint.ts'
import { OwnBundle } from '../../../src/ca/own-bundle.ts'
import { silentLogger } from '../../../src/runtime/logger.ts'
import { Replica, type ReplicaChange } from '../../../src/server/replication/replica.ts'
import type { Touched } from '../../../src/server/touches.ts'
import type { Agent } from '../../../src/spiffe/agent.ts'
import type { Bundle } from '../../../src/spiffe/bundle.ts'
import type { Entry } from '../../../src/spiffe/entry.ts'
import { SpiffeError } from '../../../src/spiffe/errors.ts'
import type { FederationRelationship } from '../../../src/spiffe/federation-relationship.ts'
import { parseTrustDomain, type TrustDomain } from '../../../src/spiffe/trust-domain.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { idOf, makeEntry, testDomain, type EntryOptions } from '../../fakes/entries.ts'
import { makeAgent } from '../../fakes/agents.ts'
import { ModelDatabase, type ModelChange } from '../../fakes/model-database.ts'

const own = parseTrustDomain(testDomain)
const partner = parseTrustDomain('partner.test')
const [one, two] = ['/spire/agent/join_token/one', '/spire/agent/join_token/two'].map(idOf) as [Agent['id'], Agent['id']]
const maxStaleMs = 10_000

class Rig {
  readonly database = new ModelDatabase()
  readonly clock = new ManualClock()
  readonly changes: ReplicaChange[] = []
  /** What the journal of authorities does when it is read. */
  onAuthorities: () => Promise<void> = async () => {}
  obstacle: Error | undefined
  replica!: Replica
  ownBundle!: OwnBundle

  async open (): Promise<this> {
    const store = this.database.storeFor(async statement => {
      if (this.obstacle !== undefined) throw this.obstacle
      return statement()
    })
    this.ownBundle = await OwnBundle.open(own, store.bundles)
    this.replica = await Replica.open({
      store, trustDomain: own, ownBundle: this.ownBundle, onAuthorities: () => this.onAuthorities(), maxStaleMs, clock: this.clock,
      log: silentLogger
    })
    this.replica.onChange(change => { this.changes.push(change) })
    return this
  }

  async commit (change: ModelChange): Promise<void> {
    this.database.commit(change)
    await this.replica.catchUp()
  }

  served (agent: Agent['id']): string[] {
    return this.replica.registry.authorizedEntries(this.replica.agents.get(agent) ?? makeAgent(agent)).map(entry => entry.id)
  }

  /** Of the last change. */
  touched (): Record<string, string> {
    const touched = this.changes.at(-1)?.touched ?? new Map<Agent['id'], Touched>()
    const text = (touch: Touched) => touch === 'all' ? touch : [...touch].toSorted().join(' ')
    return Object.fromEntries([...touched].map(([id, touch]) => [id.split('/').at(-1), text(touch)]))
  }
}

function put (...entries: EntryOptions[]): ReadonlyMap<string, Entry> {
  return new Map(entries.map(options => [options.id ?? '', makeEntry(options)]))
}

function agents (...ids: Array<Agent['id']>): ReadonlyMap<Agent['id'], Agent> {
  return new Map(ids.map(id => [id, makeAgent(id)]))
}

function bundle (trustDomain: TrustDomain, sequenceNumber: bigint): Bundle {
  return { trustDomain, sequenceNumber, x509Authorities: [], jwtAuthorities: [] }
}

void t.test('listeners hear whom a change touches', async t => {
  const rig = await new Rig().open()
  await rig.commit({ agents: agents(one, two) })
  t.strictSame([...rig.changes.at(-1)?.agents ?? []], [one, two])
  await rig.commit({ entries: put({ id: 'a', parentId: one }, { id: 'b', parentId: two }) })
  t.strictSame(rig.touched(), { one: 'a', two: 'b' })
  await rig.commit({ entries: put({ id: 'a', parentId: two }), bundles: new Map([[partner, bundle(partner, 1n)]]) })
  t.strictSame(rig.touched(), { one: 'a', two: 'a' }, 'who lost it and who got it')
  t.strictSame([...rig.changes.at(-1)?.bundles ?? []], [partner])
  t.strictSame(rig.changes.at(-1)?.cursor, rig.database.head)
  const stop = rig.replica.onChange(() => t.fail('told though it listens no more'))
  stop()
  await rig.commit({ bundles: new Map([[partner, undefined]]) })
  t.equal(rig.replica.bundleOf(partner), undefined)
})

void t.test('what one transaction changes is shown at once', async t => {
  const rig = await new Rig().open()
  await rig.commit({ agents: agents(one), entries: put({ id: 'a', parentId: one }) })
  rig.replica.onChange(() => t.strictSame(rig.served(one), rig.replica.cursor.number === 2 ? ['b'] : []))
  await rig.commit({ entries: new Map([['a', undefined], ...put({ id: 'b', parentId: one })]) })
  await rig.commit({ agents: new Map([[one, undefined]]), entries: new Map([['b', undefined]]) })
})

void t.test('a lost place: all is read anew, what went meanwhile is gone, and those it touches hear of it', async t => {
  const rig = await new Rig().open()
  await rig.commit({
    agents: agents(one, two),
    entries: put({ id: 'kept', parentId: one }, { id: 'gone', parentId: one }, { id: 'moved', parentId: one }),
    bundles: new Map([[partner, bundle(partner, 1n)]])
  })
  const kept = rig.replica.registry.get('kept')
  rig.database.commit({ entries: new Map([['gone', undefined], ...put({ id: 'moved', parentId: two, revisionNumber: 1 })]) })
  rig.database.commit({ bundles: new Map([[partner, undefined]]), entries: put({ id: 'new', parentId: two }) })
  rig.database.compact(rig.database.head.number)
  await rig.replica.catchUp()
  t.strictSame([rig.served(one), rig.served(two)], [['kept'], ['moved', 'new']])
  t.strictSame(rig.touched(), { one: 'gone moved', two: 'moved new' })
  t.equal(rig.replica.registry.get('kept'), kept, 'what did not change stays the object it was')
  t.equal(rig.replica.bundleOf(partner), undefined)
  t.strictSame(rig.replica.cursor, rig.database.head)
})

void t.test('an agent that is gone is gone after a reload too', async t => {
  const rig = await new Rig().open()
  await rig.commit({ agents: agents(one, two), entries: put({ id: 'a', parentId: one }) })
  rig.database.commit({ agents: new Map([[one, undefined]]) })
  rig.database.compact(rig.database.head.number)
  await rig.replica.catchUp()
  t.equal(rig.replica.agents.get(one), undefined)
  t.strictSame([...rig.replica.registry.agentIds()], [two])
  t.ok(rig.changes.at(-1)?.agents.has(one), 'its stream must hear of it')
})

void t.test('a database that was set back and went on otherwise shows what it holds, though revisions are the same', async t => {
  const rig = await new Rig().open()
  await rig.commit({ agents: agents(one), entries: put({ id: 'a', parentId: one }), bundles: new Map([[own, bundle(own, 1n)]]) })
  const backup = rig.database.committed
  const changed = { id: 'a', parentId: one, revisionNumber: 1 }
  await rig.commit({ entries: put({ ...changed, selectors: ['unix:uid:0'] }), bundles: new Map([[own, bundle(own, 9n)]]) })
  t.equal(rig.ownBundle.value.sequenceNumber, 9n)
  rig.database.setBack(backup, 'e1')
  rig.database.commit({ entries: put({ ...changed, selectors: ['unix:uid:5'] }) })
  await rig.replica.catchUp()
  t.strictSame(rig.replica.registry.get('a')?.selectors, [{ type: 'unix', value: 'uid:5' }])
  t.strictSame(rig.touched(), { one: 'a' })
  t.equal(rig.ownBundle.value.sequenceNumber, 1n, 'the own bundle is what the database says, older or not')
})

void t.test('when authorities cannot be read, a change is taken over again, and nobody it touched is forgotten', async t => {
  const rig = await new Rig().open()
  await rig.commit({ agents: agents(one), entries: put({ id: 'a', parentId: one }) })
  rig.onAuthorities = async () => { throw new SpiffeError('datastore_unavailable', 'away') }
  await t.rejects(rig.commit({ entries: new Map([['a', undefined]]), authorities: true }), { code: 'datastore_unavailable' })
  rig.onAuthorities = async () => {}
  await rig.replica.catchUp()
  t.equal(rig.replica.cursor.number, 2)
  const told = rig.changes.filter(({ cursor }) => cursor.number === 2).map(({ touched }) => touched.get(one))
  t.strictSame(told[0], new Set(['a']))
})

void t.test('authorities are read after the bundle is shown', async t => {
  const rig = await new Rig().open()
  const seen: Array<bigint | undefined> = []
  rig.onAuthorities = async () => { seen.push(rig.ownBundle.value.sequenceNumber) }
  await rig.commit({ bundles: new Map([[own, bundle(own, 4n)]]), authorities: true })
  t.strictSame(seen, [4n])
  await rig.commit({ entries: put({ id: 'a' }) })
  t.equal(seen.length, 1, 'and only when they changed')
})

void t.test('a view that may lack a ban answers nobody', async t => {
  const rig = await new Rig().open()
  const stop = new AbortController()
  const running = rig.replica.run(stop.signal)
  rig.obstacle = new SpiffeError('datastore_unavailable', 'away')
  await rig.clock.advance(maxStaleMs)
  t.doesNotThrow(() => rig.replica.requireFresh())
  await rig.clock.advance(1)
  t.throws(() => rig.replica.requireFresh(), { code: 'replica_stale', message: /10 s/ })
  rig.obstacle = undefined
  await rig.clock.advance(1_000)
  t.doesNotThrow(() => rig.replica.requireFresh(), 'back as soon as it has looked again')
  stop.abort(new Error('done'))
  await running
})

void t.test('federation relationships are followed, and read anew where the log is lost', async t => {
  const rig = await new Rig().open()
  const other = parseTrustDomain('other.test')
  const to = (trustDomain: TrustDomain, url = `https://${trustDomain}`): FederationRelationship =>
    ({ trustDomain, endpoint: { url: parseBundleEndpointUrl(url), profile: { kind: 'https_web' } } })
  const told = () => [...rig.changes.at(-1)?.federation ?? []]
  await rig.commit({ federation: new Map([[partner, to(partner)], [other, to(other)]]) })
  t.same([told(), [...rig.replica.federation.values()]], [[partner, other], [to(partner), to(other)]])
  const before = rig.database.committed
  await rig.commit({ federation: new Map([[partner, to(partner, 'https://new.test')], [other, undefined]]) })
  t.same([told(), [...rig.replica.federation.values()]], [[partner, other], [to(partner, 'https://new.test')]])
  await rig.commit({ entries: new Map([['a', makeEntry({ id: 'a' })]]) })
  t.same(told(), [], 'nobody is told of relationships that did not change')
  rig.database.setBack({ ...before, federation: new Map([[other, to(other)]]) }, 'e1')
  await rig.replica.catchUp()
  t.same([told().toSorted(), [...rig.replica.federation.values()]], [[other, partner], [to(other)]])
})

import t from 'tap'
import { AgentFeed, type FeedSource } from '../../../src/server/push/agent-feed.ts'
import { Registry } from '../../../src/server/registry.ts'
import type { Touched } from '../../../src/server/touches.ts'
import type { Bundle } from '../../../src/spiffe/bundle.ts'
import type { Entry } from '../../../src/spiffe/entry.ts'
import type { Revocation } from '../../../src/spiffe/revocation.ts'
import { parseTrustDomain, type TrustDomain } from '../../../src/spiffe/trust-domain.ts'
import { makeAgent } from '../../fakes/agents.ts'
import { settle } from '../../fakes/clock.ts'
import { idOf, makeEntry, testDomain, type EntryOptions } from '../../fakes/entries.ts'

const own = parseTrustDomain(testDomain)
const [x, y] = ['x.test', 'y.test'].map(parseTrustDomain) as [TrustDomain, TrustDomain]
const id = idOf('/spire/agent/join_token/node')

/** A registry, its agent and the agent's stream. */
class Rig {
  readonly registry = new Registry(own)
  readonly bundles = new Map<TrustDomain, Bundle>([own, x, y].map(domain => [domain, bundleOf(domain, 1n)]))
  revocations: ReadonlyMap<string, Revocation> = new Map()
  agent = makeAgent(id)
  cursor = { epoch: 'e', number: 0 }

  constructor () { this.registry.apply({ entries: new Map(), agents: new Map([[id, this.agent]]) }) }

  /** @param known the revocations that the agent knows of */
  feed (missed?: Touched, known = missed === undefined ? undefined : this.revocations): AgentFeed {
    return new AgentFeed(this.source, missed, { revocations: known })
  }

  get source (): FeedSource {
    return {
      registry: this.registry,
      trustDomain: own,
      cursor: () => this.cursor,
      agent: () => this.agent,
      bundleOf: domain => this.bundles.get(domain),
      revocations: () => this.revocations,
      soon: wake => wake()
    }
  }

  /** Changes entries and tells the streams, as a replica does. */
  change (feeds: readonly AgentFeed[], changes: Readonly<Record<string, EntryOptions | undefined>>): void {
    this.cursor = { ...this.cursor, number: this.cursor.number + 1 }
    const entries = new Map(Object.entries(changes).map(([id, options]): [string, Entry | undefined] =>
      [id, options === undefined ? undefined : makeEntry({ ...options, id })]))
    const touched = this.registry.apply({ entries, agents: new Map() }).get(id)
    if (touched !== undefined) for (const feed of feeds) feed.touch(touched)
  }
}

function bundleOf (trustDomain: TrustDomain, sequenceNumber: bigint): Bundle {
  return { trustDomain, sequenceNumber, x509Authorities: [], jwtAuthorities: [] }
}

function told (feed: AgentFeed) {
  const step = feed.next()
  return step && {
    number: step.cursor.number,
    snapshot: step.snapshot,
    entries: step.entries.map(entry => entry.id).toSorted(),
    removed: step.removedEntryIds.toSorted(),
    bundles: step.bundles.map(bundle => `${bundle.trustDomain} ${bundle.sequenceNumber}`),
    withdrawn: step.removedTrustDomains
  }
}

const nothing = { snapshot: false, entries: [], removed: [], bundles: [], withdrawn: [] }

void t.test('an agent that knows nothing is told everything, then only what changes', async t => {
  const rig = new Rig()
  rig.change([], { a: {}, b: { spiffeId: '/b', federatesWith: [x] }, foreign: { parentId: '/spire/agent/join_token/other' } })
  const feed = rig.feed()
  t.strictSame(told(feed), {
    number: 1, snapshot: true, entries: ['a', 'b'], removed: [], bundles: ['example.org 1', 'x.test 1'], withdrawn: []
  })
  t.equal(told(feed), undefined)
  t.equal(feed.known, 2)
  rig.change([feed], { a: { hint: 'new' } })
  t.strictSame(told(feed), { ...nothing, number: 2, entries: ['a'] })
  rig.change([feed], { a: undefined, c: { spiffeId: '/c' } })
  t.strictSame(told(feed), { ...nothing, number: 3, entries: ['c'], removed: ['a'] })
  rig.change([feed], { foreign: { parentId: '/spire/agent/join_token/other', hint: 'x' } })
  t.equal(told(feed), undefined, 'nothing of what is not its own')
  t.strictSame(told(new Rig().feed()), { ...nothing, number: 0, snapshot: true, bundles: ['example.org 1'] }, 'a snapshot may be empty')
})

void t.test('an agent that resumes is told exactly what it missed', async t => {
  const rig = new Rig()
  rig.change([], { kept: {}, changed: { spiffeId: '/changed' }, gone: { spiffeId: '/gone' } })
  rig.change([], { changed: { spiffeId: '/changed', hint: 'new' }, gone: undefined, new: { spiffeId: '/new' } })
  const feed = rig.feed(new Set(['changed', 'gone', 'new']))
  t.strictSame(told(feed), { ...nothing, number: 2, entries: ['changed', 'new'], removed: ['gone'], bundles: ['example.org 1'] })
  t.equal(feed.known, 3)
  rig.change([feed], { kept: { hint: 'new' } })
  t.strictSame(told(feed), { ...nothing, number: 3, entries: ['kept'] })
  const idle = rig.feed(new Set())
  t.strictSame(told(idle), { ...nothing, number: 3, bundles: ['example.org 1'] }, 'bundles always: they cost little')
  t.strictSame(told(rig.feed('all')), {
    ...nothing, number: 3, snapshot: true, entries: ['changed', 'kept', 'new'], bundles: ['example.org 1']
  }, 'all may have changed: what is gone by then, nobody knows')
})

void t.test('revocations are told whole at first, then by what changes', async t => {
  const rig = new Rig()
  const revocation = (id: string, reason = ''): [string, Revocation] => [id, {
    id, kind: 'svid', subject: idOf('/bad'), certificateDigests: [], reason, revokedBy: '', revokedAt: new Date(0), expiresAt: new Date(1)
  }]
  const revoke = (...all: Array<[string, Revocation]>) => {
    rig.cursor = { ...rig.cursor, number: rig.cursor.number + 1 }
    rig.revocations = new Map(all)
  }
  const [a, b] = [revocation('a'), revocation('b')]
  t.equal(rig.feed().next()?.revocations, undefined, 'in a snapshot nothing means none')
  revoke(a)
  const feed = rig.feed()
  t.strictSame(feed.next()?.revocations, { whole: true, revocations: [a[1]], removedIds: [] })
  const woken = feed.untilTouched(new AbortController().signal)
  revoke(a, b)
  feed.touchRevocations()
  await woken
  feed.acknowledge({ epoch: 'e', number: 1 }, [])
  t.strictSame(feed.reached, { epoch: 'e', number: 1 }, 'it does not have the latest yet')
  t.strictSame(feed.next()?.revocations, { whole: false, revocations: [b[1]], removedIds: [] })
  const changed = revocation('b', 'again')
  revoke(changed)
  t.strictSame(feed.next()?.revocations, { whole: false, revocations: [changed[1]], removedIds: ['a'] }, 'what is new, changed or gone')
  revoke(changed)
  t.equal(feed.next(), undefined, 'the same again is nothing')
  t.equal(rig.feed(new Set()).next()?.revocations, undefined, 'to one that knows them')
  const resumed = () => new AgentFeed(rig.source, new Set()).next()?.revocations
  t.strictSame(resumed(), { whole: true, revocations: [changed[1]], removedIds: [] }, 'to one that may lack some')
  revoke()
  t.strictSame(resumed(), { whole: true, revocations: [], removedIds: [] }, 'also that none stands')
})

void t.test('a slow agent is told of the newest state, once', async t => {
  const rig = new Rig()
  const feed = rig.feed()
  told(feed)
  for (let n = 0; n < 50; n++) rig.change([feed], { a: { hint: `${n}` }, b: n % 2 === 0 ? {} : undefined, [`c${n}`]: {} })
  for (let n = 0; n < 49; n++) rig.change([feed], { [`c${n}`]: undefined })
  const step = feed.next()
  t.strictSame(step?.entries.map(entry => [entry.id, entry.hint]), [['a', '49'], ['c49', '']])
  t.equal(step?.removedEntryIds.includes('a'), false)
  t.equal(told(feed), undefined)
})

void t.test('a change of what lies above is compared as a whole', async t => {
  const rig = new Rig()
  const feed = rig.feed()
  rig.change([feed], { top: { spiffeId: '/top' }, under: { spiffeId: '/under', parentId: '/top' }, deep: { parentId: '/under' } })
  told(feed)
  rig.change([feed], { top: undefined })
  t.strictSame(told(feed), { ...nothing, number: 2, removed: ['deep', 'top', 'under'] })
  rig.change([feed], { alias: { spiffeId: '/top', parentId: id, selectors: [`spiffe_id:${id}`] } })
  t.strictSame(told(feed), { ...nothing, number: 3, entries: ['deep', 'under'] })
  rig.agent = makeAgent(id, { selectors: [{ type: 'x', value: '1' }] })
  rig.change([feed], { alias2: { spiffeId: '/pool', parentId: '/spire/server', selectors: ['x:1'] }, pooled: { parentId: '/pool' } })
  feed.touch('all')
  t.strictSame(told(feed), { ...nothing, number: 4, entries: ['pooled'] }, 'with the selectors that the agent has now')
})

void t.test('what a resuming agent must drop is not forgotten when all must be compared meanwhile', async t => {
  const rig = new Rig()
  rig.change([], { kept: {} })
  const feed = rig.feed(new Set(['gone']))
  rig.change([feed], { top: { spiffeId: '/top' }, under: { parentId: '/top' } })
  feed.touch('all')
  t.strictSame(told(feed), { ...nothing, number: 2, entries: ['top', 'under'], removed: ['gone'], bundles: ['example.org 1'] })
})

void t.test('bundles follow what the entries federate with', async t => {
  const rig = new Rig()
  const feed = rig.feed()
  told(feed)
  rig.change([feed], { a: { federatesWith: [x] } })
  t.strictSame(told(feed), { ...nothing, number: 1, entries: ['a'], bundles: ['x.test 1'] })
  rig.change([feed], { b: { federatesWith: [x, y] } })
  t.strictSame(told(feed), { ...nothing, number: 2, entries: ['b'], bundles: ['y.test 1'] }, 'once')
  rig.change([feed], { a: undefined })
  t.strictSame(told(feed), { ...nothing, number: 3, removed: ['a'] }, 'another entry still needs it')
  rig.change([feed], { b: { federatesWith: [y] } })
  t.strictSame(told(feed), { ...nothing, number: 4, entries: ['b'], withdrawn: [x] })
  rig.bundles.set(x, bundleOf(x, 2n))
  feed.touchBundles(new Set([x]))
  t.equal(told(feed), undefined, 'a bundle that does not concern it')
  rig.bundles.set(y, bundleOf(y, 2n))
  feed.touchBundles(new Set([x, y]))
  t.strictSame(told(feed), { ...nothing, number: 4, bundles: ['y.test 2'] })
  feed.touchBundles(new Set([y]))
  t.equal(told(feed), undefined, 'the same bundle')
  rig.bundles.set(own, bundleOf(own, 5n))
  feed.touchBundles(new Set([own]))
  t.strictSame(told(feed), { ...nothing, number: 4, bundles: ['example.org 5'] }, 'the own one concerns everybody')
  rig.bundles.delete(y)
  feed.touchBundles(new Set([y]))
  t.strictSame(told(feed), { ...nothing, number: 4, withdrawn: [y] })
  const resumed = rig.feed(new Set())
  t.strictSame(told(resumed), { ...nothing, number: 4, bundles: ['example.org 5'] })
  rig.bundles.set(y, bundleOf(y, 3n))
  resumed.touchBundles(new Set([y]))
  t.strictSame(told(resumed), { ...nothing, number: 4, bundles: ['y.test 3'] }, 'an entry that it had before it resumed counts')
})

void t.test('up to where the agent has everything', async t => {
  const rig = new Rig()
  const feed = rig.feed()
  t.equal(feed.reached, undefined, 'nothing is acknowledged')
  told(feed)
  t.equal(feed.reached, undefined)
  feed.acknowledge(rig.cursor, [])
  t.equal(feed.reached?.number, 0)
  rig.cursor = { ...rig.cursor, number: 7 }
  t.equal(feed.reached?.number, 7, 'what does not concern it, it has')
  rig.change([feed], { a: {} })
  t.equal(feed.reached?.number, 0, 'not while something is to be told')
  told(feed)
  t.equal(feed.reached?.number, 0, 'nor before it said that it has it')
  const behind = rig.cursor
  rig.change([feed], { b: {} })
  told(feed)
  feed.acknowledge(behind, ['b'])
  t.equal(feed.reached?.number, 8, 'what it said, not what it was told since')
  t.strictSame(feed.unservedEntryIds, ['b'])
  feed.acknowledge(rig.cursor, [])
  t.equal(feed.reached?.number, 9)
  rig.cursor = { epoch: 'other', number: 1 }
  t.strictSame(feed.reached, { epoch: 'e', number: 9 }, 'nothing of another epoch')
})

void t.test('a log that began anew is told, though nothing else changed', async t => {
  const rig = new Rig()
  const feed = rig.feed()
  told(feed)
  rig.cursor = { epoch: 'other', number: 3 }
  feed.touchCursor()
  t.strictSame(told(feed), { ...nothing, number: 3 })
  t.equal(told(feed), undefined)
})

void t.test('it wakes for what there is to tell, and leaves no listener behind', async t => {
  const rig = new Rig()
  const feed = rig.feed()
  const stop = new AbortController()
  let listeners = 0
  const { signal } = stop
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)]
  Object.assign(signal, {
    addEventListener: (...given: Parameters<typeof add>) => { listeners++; add(...given) },
    removeEventListener: (...given: Parameters<typeof remove>) => { listeners--; remove(...given) }
  })
  await feed.untilTouched(signal)
  told(feed)
  let woken = 0
  const wait = () => void feed.untilTouched(signal).then(() => { woken++ })
  for (let n = 0; n < 100; n++) {
    wait()
    await settle()
    t.equal(woken, n, 'asleep')
    if (n % 2 === 0) rig.change([feed], { a: { hint: `${n}` } })
    else feed.touch(new Set())
    await settle()
    t.equal(woken, n + 1)
    told(feed)
  }
  t.equal(listeners, 0)
  wait()
  feed.fail(new Error('banned'))
  await settle()
  t.equal(woken, 101)
  t.throws(() => feed.next(), { message: 'banned' })
  await feed.untilTouched(signal)
  const other = rig.feed()
  told(other)
  const waiting = other.untilTouched(signal)
  stop.abort()
  await waiting
  t.equal(listeners, 0)
})

import type { Test } from 'tap'
import type { StoredAuthority } from '../../src/storage/authority-store.ts'
import type { AgentProgress } from '../../src/storage/progress-store.ts'
import type { Replica } from '../../src/storage/replica-store.ts'
import { agent, bundle, domain, now, openFresh, type DatabaseKind } from './fixture.ts'

const own = domain('example.org')

export async function replicaContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test('replicas say that they live, and are forgotten when they do not', async t => {
    const { store, clock } = await openFresh(t, database)
    const facts = { nudged: true, agents: 3 }
    const replica = (id: string, rest: Partial<Replica> = {}): Omit<Replica, 'seenAt'> => ({
      id, name: `host-${id}`, version: '1.2.3', startedAt: now, cursor: { epoch: 'e', number: 2 ** 40 }, facts, ...rest
    })
    await store.replicas.report(replica('b', { startedAt: new Date(now.getTime() - 1) }))
    await store.replicas.report(replica('c'))
    await store.replicas.report(replica('a'))
    // Where the database has a clock of its own, time goes by there and not here: only that it was lately is told.
    const isOurs = store.kind === 'sqlite'
    const told = async () => (await store.replicas.list()).map(({ seenAt, ...one }) => {
      const agoMs = clock.now().getTime() - seenAt.getTime()
      return { ...one, agoMs: isOurs || agoMs < 0 || agoMs > 60_000 ? agoMs : 0 }
    })
    const oldest = replica('b', { startedAt: new Date(now.getTime() - 1) })
    t.strictSame(await told(), [oldest, replica('a'), replica('c')].map(one => ({ ...one, agoMs: 0 })), 'by age')
    await clock.advance(5_000)
    await store.replicas.report(replica('a', { facts: {}, version: '1.2.4' }))
    const agoMs = isOurs ? 5_000 : 0
    t.strictSame(await told(), [
      { ...oldest, agoMs }, { ...replica('a', { facts: {}, version: '1.2.4' }), agoMs: 0 }, { ...replica('c'), agoMs }
    ])
    await store.replicas.prune(new Date(clock.now().getTime() - (isOurs ? 5_000 : 60_000)))
    t.equal((await store.replicas.list()).length, 3, 'seen at that moment is not before it')
    await store.replicas.prune(new Date(isOurs ? now.getTime() + 1 : clock.now().getTime() + 60_000))
    t.strictSame((await store.replicas.list()).map(({ id }) => id), isOurs ? ['a'] : [])
    await store.replicas.report(replica('a'))
    await store.replicas.remove('a')
    await store.replicas.remove('a')
    t.strictSame(await store.replicas.list(), [])
  })

  await t.test('how far agents are', async t => {
    const { store } = await openFresh(t, database)
    const { progress } = store
    // Where the database has a clock of its own, time goes by there.
    const stepMs = store.kind === 'sqlite' ? 1 : 60_000
    const list = async (agentIds?: Parameters<typeof progress.list>[0]) => (await progress.list(agentIds)).map(({ seenAt, ...one }) =>
      ({ ...one, seenAt: new Date(Math.round(seenAt.getTime() / stepMs) * stepMs) }))
    const of = (name: string, rest: Partial<AgentProgress> = {}): AgentProgress => ({
      ...progressOf(name), cursor: { epoch: 'e', number: 7 }, ...rest
    })
    const later = new Date(now.getTime() + 60_000)
    const between = new Date(now.getTime() + 30_000)
    await progress.report([])
    const [a, b] = [of('a', { state: 'written' }), of('b', { unservedEntryIds: ['x', 'y"'] })]
    const c = of('c', { replicaId: 'r2', policies: { version: 7, refusal: 'why' } })
    await progress.report([b, a, c])
    t.strictSame(await list(), [a, b, c])
    t.strictSame(await list([agent('c').id, agent('unknown').id]), [c])
    t.strictSame(await list([]), [])
    const moved = of('b', { replicaId: 'r2', cursor: { epoch: 'e', number: 9 }, state: 'inferred', seenAt: later })
    await progress.report([moved])
    await progress.leave('r1', later, [agent('a').id, agent('b').id])
    t.strictSame(await list([agent('a').id, agent('b').id]), [{ ...a, replicaId: '', seenAt: later }, moved],
      'an agent that went to another replica has not left')
    await progress.leave('r1', later, [])
    const idle = of('idle', { seenAt: now })
    await progress.report([idle])
    await store.agents.attest(agent('idle'))
    await progress.prune(between)
    t.strictSame((await progress.list()).map(({ agentId }) => agentId), [agent('a').id, agent('b').id, agent('idle').id],
      'seen since, or an agent still: one that has nothing new to say is silent for long')
    await store.agents.delete(agent('idle').id)
    await progress.prune(between)
    t.strictSame((await progress.list()).map(({ agentId }) => agentId), [agent('a').id, agent('b').id], 'evicted')
  })

  await t.test('many agents report at two replicas at once', async t => {
    const { store } = await openFresh(t, database)
    const names = Array.from({ length: 1_200 }, (_, n) => `n${n}`)
    const report = (replicaId: string, order: readonly string[], number: number) =>
      store.progress.report(order.map(name => ({ ...progressOf(name), replicaId, cursor: { epoch: 'e', number } })))
    const reversed = names.toReversed()
    await Promise.all([report('r1', names, 1), report('r2', reversed, 2), report('r1', reversed, 3), report('r2', names, 4)])
    const stored = await store.progress.list()
    t.equal(stored.length, names.length)
    const mixed = stored.filter(({ replicaId, cursor }) => replicaId !== (cursor.number % 2 === 1 ? 'r1' : 'r2'))
    t.strictSame(mixed, [], 'no row is half one\'s')
  })

  await t.test('wrapped keys', async t => {
    const { store } = await openFresh(t, database)
    t.strictSame(await store.keys.list(), new Map())
    await store.keys.put('x509-A', Uint8Array.of(0, 255, 1))
    await store.keys.put('jwt-A', new Uint8Array(5_000).fill(7))
    t.strictSame(await store.keys.list(), new Map([['jwt-A', new Uint8Array(5_000).fill(7)], ['x509-A', Uint8Array.of(0, 255, 1)]]))
    await store.keys.put('x509-A', Uint8Array.of(9))
    await store.keys.delete('jwt-A')
    await store.keys.delete('jwt-A')
    t.strictSame(await store.keys.list(), new Map([['x509-A', Uint8Array.of(9)]]))
  })

  await t.test('authorities belong to the trust domain, or to one replica', async t => {
    const { store } = await openFresh(t, database)
    const notAfter = new Date(now.getTime() + 1)
    const authority = (authorityId: string, rest: Partial<StoredAuthority> = {}): StoredAuthority => ({
      authorityId, kind: 'x509', slot: 'A', state: 'active', publicKey: Uint8Array.of(1), notBefore: now, notAfter, ...rest
    })
    const shared = authority('1')
    const ours = authority('2', { owner: 'r1' })
    const theirs = authority('3', { owner: 'r2', notAfter: new Date(now.getTime() + 9) })
    await store.authorities.save([shared, ours, theirs, authority('4', { kind: 'jwt', owner: 'r1' })])
    t.strictSame(await store.authorities.list('x509'), [shared])
    t.strictSame(await store.authorities.list('x509', 'r1'), [ours])
    t.strictSame(await store.authorities.list('x509', 'r2'), [theirs])
    t.strictSame(await store.authorities.list('jwt'), [])
    const gone = await store.authorities.prune(notAfter)
    t.strictSame(gone.map(({ authorityId }) => authorityId).toSorted(), ['2', '4'],
      'a lost replica\'s go when they have expired; the trust domain\'s active one waits for its successor')
    t.strictSame(await store.authorities.list('x509'), [shared])
    t.strictSame(await store.authorities.list('x509', 'r2'), [theirs])
  })

  await t.test('an authority is written with the bundle that publishes it, or not at all', async t => {
    const { store } = await openFresh(t, database)
    const authority: StoredAuthority = {
      authorityId: '1', kind: 'x509', slot: 'A', state: 'prepared', publicKey: Uint8Array.of(1), notBefore: now, notAfter: now
    }
    const published = bundle('example.org', { x509Authorities: [{ certificate: Uint8Array.of(1), tainted: false }] })
    t.equal(await store.authorities.save([authority]), undefined, 'nothing was to be published')
    const seen: unknown[] = []
    const stored = await store.authorities.save([{ ...authority, state: 'active' }], {
      trustDomain: own,
      change: current => {
        seen.push(current)
        return published
      }
    })
    t.strictSame([stored, await store.bundles.get(own), seen], [published, published, [undefined]])
    const both = async () => ({ bundle: await store.bundles.get(own), authorities: await store.authorities.list('x509') })
    const before = await both()
    await t.rejects(store.authorities.save([{ ...authority, state: 'old' }], {
      trustDomain: own, change: () => { throw new Error('cannot be published') }
    }), { message: 'cannot be published' })
    t.strictSame(await both(), before, 'the bundle could not be changed: the authority was not')
    const broken = { ...authority, authorityId: '2', slot: null as unknown as 'A' }
    await t.rejects(store.authorities.save([{ ...authority, state: 'old' }, broken], {
      trustDomain: own, change: () => bundle('example.org', { sequenceNumber: 9n })
    }), { message: /null/i })
    t.strictSame(await both(), before, 'an authority could not be written: the bundle was not')
    const unchanged = { trustDomain: own, change: (current = published) => current }
    t.strictSame(await store.authorities.save([{ ...authority, state: 'old' }], unchanged), published, 'what is stored is given back')
    t.match(await both(), { bundle: published, authorities: [{ state: 'old' }] })
  })
}

export function progressOf (name: string): AgentProgress {
  const cursor = { epoch: 'e', number: 1 }
  return { agentId: agent(name).id, replicaId: 'r1', state: 'acknowledged', cursor, unservedEntryIds: [], seenAt: now }
}

import type { Test } from 'tap'
import { codeOf } from '../../src/spiffe/errors.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { makePolicyDraft } from '../fakes/policies.ts'
import { makeServiceDraft } from '../fakes/services.ts'
import { agent, bundle, domain, draft, now, openFresh, relationship, type DatabaseKind } from './fixture.ts'

const longMs = 60_000

export async function leaseContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test('one holder at a time, a new token for each', async t => {
    const { store } = await openFresh(t, database)
    const { leases } = store
    t.equal(await leases.get('chores'), undefined)
    const first = await leases.acquire('chores', 'one', longMs)
    t.match(first, { holder: 'one', token: 1 })
    t.strictSame(await leases.get('chores'), first)
    t.strictSame(await leases.acquire('chores', 'two', longMs), first, 'the other is told who has it, and changes nothing')
    const renewed = await leases.acquire('chores', 'one', 2 * longMs)
    t.match(renewed, { holder: 'one', token: 1 }, 'renewed by its holder, the same token')
    t.ok(renewed.expiresAt > first.expiresAt)
    t.match(await leases.acquire('others', 'two', longMs), { holder: 'two', token: 1 }, 'leases of other names are apart')
    await leases.release('chores', 'two')
    t.strictSame(await leases.get('chores'), renewed, 'nobody gives up what is another\'s')
    await leases.release('chores', 'one')
    t.match(await leases.acquire('chores', 'two', longMs), { holder: 'two', token: 2 })
    await leases.release('chores', 'two')
    t.match(await leases.acquire('chores', 'two', longMs), { holder: 'two', token: 3 }, 'given up and taken again: another lease')
    await leases.release('unknown', 'two')
  })

  await t.test('of many that want it one has it', async t => {
    const { store } = await openFresh(t, database)
    const holders = Array.from({ length: 20 }, (_, n) => `r${n}`)
    const leases = await Promise.all(holders.map(holder => store.leases.acquire('chores', holder, longMs)))
    t.equal(new Set(leases.map(({ holder }) => holder)).size, 1)
    t.strictSame([...new Set(leases.map(({ token }) => token))], [1])
    const seized = await Promise.all(holders.map(holder => store.leases.acquire('chores', holder, longMs, { seize: true })))
    t.strictSame(seized.map(({ holder }) => holder), holders, 'who seizes has it at that moment')
    t.strictSame(seized.map(({ token }) => token).toSorted((a, b) => a - b), holders.map((_, n) => n + 2), 'each with a token of its own')
    const last = seized.find(({ token }) => token === holders.length + 1)
    t.strictSame(await store.leases.get('chores'), last)
    t.match(await store.leases.acquire('chores', last?.holder ?? '', longMs, { seize: true }), { token: holders.length + 2 },
      'a new one even for the holder: what it was writing before fails')
  })

  await t.test('a lease runs out by the clock that all share', async t => {
    const { store, clock } = await openFresh(t, database)
    await store.leases.acquire('chores', 'one', longMs)
    // Where the database has a clock of its own, what ours says does not count.
    await clock.advance(store.kind === 'sqlite' ? longMs - 1 : 10 * longMs)
    t.match(await store.leases.acquire('chores', 'two', longMs), { holder: 'one' }, 'not before its time')
    const { expiresAt } = await store.leases.acquire('chores', 'one', 1)
    await clock.advance(1)
    await eventually('it is free', async () => (await store.leases.acquire('chores', 'two', longMs)).holder === 'two')
    const lease = await store.leases.get('chores')
    t.match(lease, { token: 2 })
    t.ok(expiresAt.getTime() + longMs <= (lease?.expiresAt.getTime() ?? 0), 'not before the first had run out')
    t.match(await store.leases.acquire('chores', 'one', longMs), { holder: 'two' })
  })

  await t.test('what a superseded holder writes fails, all of it', async t => {
    const { store } = await openFresh(t, database)
    await store.bundles.set(bundle('a.test'))
    const held = store.leases.fenced('chores', await store.leases.acquire('chores', 'one', longMs))
    await held.entries.createMany([draft('a', { id: 'a' })])
    t.ok(await store.entries.get('a'), 'while it holds the lease it writes')
    await store.leases.release('chores', 'one')
    await held.entries.updateMany([{ id: 'a', change: { hint: 'x' } }])
    t.match(await store.entries.get('a'), { revisionNumber: 1 }, 'given up, but nobody else has begun')
    await store.leases.acquire('chores', 'two', longMs)
    const before = await store.log.head()
    const later = new Date(now.getTime() + 3_600_000)
    const writes: Readonly<Record<string, () => Promise<unknown>>> = {
      'entries.createMany': () => held.entries.createMany([draft('b', { id: 'b' })]),
      'entries.updateMany': () => held.entries.updateMany([{ id: 'a', change: { hint: 'y' } }]),
      'entries.deleteMany': () => held.entries.deleteMany(['a']),
      'entries.deleteExpired': () => held.entries.deleteExpired(later),
      'agents.attest': () => held.agents.attest(agent('n')),
      'agents.deleteExpired': () => held.agents.deleteExpired(later, { includeTofu: true }),
      'bundles.set': () => held.bundles.set(bundle('a.test', { sequenceNumber: 9n })),
      'bundles.update': () => held.bundles.update(domain('a.test'), () => bundle('a.test', { sequenceNumber: 9n })),
      'bundles.delete': () => held.bundles.delete(domain('a.test'), 'restrict'),
      'federation.create': () => held.federation.create(relationship('a.test')),
      'services.createMany': () => held.services.createMany([makeServiceDraft()]),
      'policies.apply': () => held.policies.apply(makePolicyDraft(), 0),
      'endpoints.replace': () => held.endpoints.replace(new Map([[agent('n').id, []]])),
      'authorities.save': () => held.authorities.save([]),
      'authorities.prune': () => held.authorities.prune(later),
      'keys.put': () => held.keys.put('k', Uint8Array.of(1)),
      'keys.delete': () => held.keys.delete('k'),
      'joinTokens.create': () => held.joinTokens.create('token', later),
      'joinTokens.prune': () => held.joinTokens.prune(later),
      'replicas.prune': () => held.replicas.prune(later),
      'progress.prune': () => held.progress.prune(later),
      'log.prune': () => held.log.prune(later)
    }
    for (const [name, write] of Object.entries(writes)) {
      t.equal(codeOf(await write().catch((error: unknown) => error)), 'lease_lost', name)
    }
    t.strictSame(await store.log.head(), before)
    t.match(await store.entries.get('a'), { hint: 'x' })
    t.equal(await store.bundles.get(domain('a.test')).then(bundle => bundle?.sequenceNumber), 1n)
    t.ok(await held.entries.get('a'), 'reading is free')
    await store.entries.updateMany([{ id: 'a', change: { hint: 'z' } }])
    t.match(await store.entries.get('a'), { hint: 'z' }, 'and so is writing without the lease, as API calls do')
    const ofNone = store.leases.fenced('never', { holder: 'one', token: 1 })
    t.equal(codeOf(await ofNone.keys.delete('k').catch((error: unknown) => error)), 'lease_lost', 'of no lease')
  })

  await t.test('fenced stores close with the others', async t => {
    const url = await database.fresh(t)
    const store = await openDatastore(url, { clock: new ManualClock(now), log: silentLogger })
    const held = store.leases.fenced('chores', await store.leases.acquire('chores', 'one', longMs))
    await store[Symbol.asyncDispose]()
    await t.rejects(held.entries.createMany([draft('late')]), { code: 'datastore_unavailable', message: 'the datastore is closed' })
  })
}

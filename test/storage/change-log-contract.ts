import type { Test } from 'tap'
import { parseBundleEndpointUrl } from '../../src/spiffe/bundle-endpoint.ts'
import type { StoredAuthority } from '../../src/storage/authority-store.ts'
import type { ChangedState, Cursor } from '../../src/storage/change-log.ts'
import type { Datastore, Stores } from '../../src/storage/datastore.ts'
import { makePolicyDraft } from '../fakes/policies.ts'
import { makeEndpoint, makeServiceDraft } from '../fakes/services.ts'
import { agent, bundle, domain, draft, id, now, openFresh, relationship, selectors, type DatabaseKind } from './fixture.ts'

const own = domain('example.org')
const partner = domain('partner.test')
const nodeId = agent('n').id
const later = new Date(now.getTime() + 60_000)

export async function changeLogContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test('every change takes one number of the log, and what changes nothing takes none', async t => {
    const { store } = await openFresh(t, database)
    for (const [what, keys, act] of steps) {
      const before = await store.log.head()
      await act(store).catch((error: unknown) => {
        if (!what.includes('refused')) throw error
      })
      const { number } = await store.log.head()
      t.equal(number - before.number, keys === '' ? 0 : 1, what)
      const reading = await store.log.read(before)
      t.equal(reading.kind === 'changes' && describe(reading.state), keys, `${what}: what it is about`)
    }
    const covered = new Set(steps.map(([what]) => what.split(/[ :]/)[0]))
    for (const method of mutatingMethods(store)) t.ok(covered.has(method), `${method} is in the list`)
  })

  await t.test('what was read is the state at its cursor: rows as they are, or gone', async t => {
    const { store } = await openFresh(t, database)
    const start = await store.log.head()
    t.equal(start.number, 0, 'a new database begins at 0')
    t.strictSame(await store.log.read(start),
      { kind: 'changes', cursor: start, state: nothing, more: false }, 'and has nothing to tell')
    await store.entries.createMany([draft('a', { id: 'a' }), draft('b', { id: 'b' })])
    await store.entries.updateMany([{ id: 'a', change: { hint: 'newer' } }])
    const middle = await store.log.head()
    await store.entries.deleteMany(['b'])
    await store.agents.attest(agent('n'))
    await store.bundles.set(bundle('partner.test'))
    await store.bundles.set(bundle('gone.test'))
    await store.bundles.delete(domain('gone.test'), 'restrict')
    await store.federation.create(relationship('partner.test'))
    await store.federation.create(relationship('gone.test'))
    await store.federation.delete(domain('gone.test'))
    await store.services.createMany([makeServiceDraft({ id: 'web' }), makeServiceDraft({ id: 'none', name: 'none' })])
    await store.services.deleteMany(['none'])
    await store.endpoints.replace(new Map([[endpoint.agentId, [endpoint]]]))
    const end = await store.log.head()
    const whole: ChangedState = {
      entries: new Map([['a', await store.entries.get('a')], ['b', undefined]]),
      agents: new Map([[nodeId, agent('n')]]),
      bundles: new Map([[partner, bundle('partner.test')], [domain('gone.test'), undefined]]),
      federation: new Map([[partner, relationship('partner.test')], [domain('gone.test'), undefined]]),
      services: new Map([['web', await store.services.get('web')], ['none', undefined]]),
      endpoints: new Map([[endpoint.id, endpoint]]),
      revocations: new Map(),
      authorities: false
    }
    t.strictSame(await store.log.read(start), { kind: 'changes', cursor: end, state: whole, more: false })
    t.strictSame(await store.log.read(middle),
      { kind: 'changes', cursor: end, state: { ...whole, entries: new Map([['b', undefined]]) }, more: false })
    t.strictSame(await store.log.read(end), { kind: 'changes', cursor: end, state: nothing, more: false })
  })

  await t.test('a reader far behind reads again and again, and skips nothing', async t => {
    const { store, url } = await openFresh(t, database)
    const changes = 2_300
    await database.execute(url, `insert into change_log (number, changed_at, keys)
      with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < ${changes})
      select n, 0, '[["entry","e' || n || '"]]' from numbers`)
    await database.execute(url, `update log_head set number = ${changes}`)
    let cursor: Cursor = { ...await store.log.head(), number: 0 }
    const seen: string[] = []
    for (let more = true; more;) {
      const reading = await store.log.read(cursor)
      if (reading.kind !== 'changes') throw new Error('the log reaches back to its beginning')
      t.equal(reading.cursor.number - cursor.number, reading.state.entries.size)
      seen.push(...reading.state.entries.keys())
      ;({ cursor, more } = reading)
    }
    t.strictSame(seen, Array.from({ length: changes }, (_, n) => `e${n + 1}`))
    t.strictSame(cursor, await store.log.head())
  })

  await t.test('a place that the log does not know is lost', async t => {
    const { store, clock, url } = await openFresh(t, database)
    for (const name of ['a', 'b', 'c', 'd']) {
      await store.entries.createMany([draft(name, { id: name })])
      await clock.advance(1_000)
    }
    const head = await store.log.head()
    const kindOf = async (cursor: Cursor) => (await store.log.read(cursor)).kind
    t.equal(await kindOf({ ...head, epoch: 'another' }), 'lost', 'another epoch')
    t.equal(await kindOf({ ...head, number: head.number + 1 }), 'lost', 'a place the log has not come to: the database was set back')
    await store.log.prune(new Date(now.getTime() + 1_001))
    t.equal(await kindOf({ ...head, number: 1 }), 'lost', 'what follows it is forgotten')
    t.equal(await kindOf({ ...head, number: 0 }), 'lost')
    t.equal(await kindOf({ ...head, number: 2 }), 'changes', 'all that follows it is there')
    t.strictSame((await database.execute(url, 'select number from change_log order by number')).map(row => Number(row.number)), [3, 4])
    await store.log.prune(now)
    t.equal(await kindOf({ ...head, number: 2 }), 'changes', 'nothing older: nothing is forgotten')
    await store.log.prune(new Date(now.getTime() + 10_000))
    t.strictSame(await store.log.read(head), { kind: 'changes', cursor: head, state: nothing, more: false }, 'who knows all is not lost')
    await store.entries.createMany([draft('e', { id: 'e' })])
    t.equal((await store.log.head()).number, 5, 'numbers go on after all are forgotten')
    t.equal(await kindOf(head), 'changes')
    t.equal(await kindOf({ ...head, number: 3 }), 'lost')
  })

  await t.test('a change of very many rows says: everything', async t => {
    const { store, url } = await openFresh(t, database)
    const start = await store.log.head()
    await store.entries.createMany(Array.from({ length: 20_001 }, (_, n) => draft(`w${n}`, { id: `w${n}` })))
    t.strictSame((await database.execute(url, 'select keys from change_log')).map(row => row.keys), ['[["everything"]]'])
    t.strictSame(await store.log.read(start), { kind: 'lost' }, 'whoever was there before it reads all anew')
    const head = await store.log.head()
    await store.entries.deleteMany(['w7'])
    t.equal((await store.log.read(head)).kind, 'changes', 'who came after it does not')
    t.strictSame(await store.log.read(start), { kind: 'lost' })
  })

  await t.test('what was rolled back took no number', async t => {
    const { store } = await openFresh(t, database)
    await store.bundles.set(bundle('partner.test'))
    const before = await store.log.head()
    await t.rejects(store.bundles.update(own, () => { throw new Error('changed my mind') }))
    await t.rejects(store.bundles.create(bundle('partner.test')), { code: 'bundle_exists' })
    await t.rejects(store.authorities.save([{ ...authority('1'), slot: null as unknown as 'A' }]))
    t.strictSame(await store.log.head(), before)
    await store.bundles.set(bundle('other.test'))
    t.equal((await store.log.head()).number, before.number + 1, 'the next change has the next number')
  })

  await t.test('a commit nudges, a read and a refusal do not', async t => {
    const { store } = await openFresh(t, database)
    let nudges = 0
    const stop = store.log.onNudge(() => { nudges++ })
    await store.entries.createMany([draft('a', { id: 'a' })])
    t.equal(nudges, 1)
    await store.entries.get('a')
    await store.entries.createMany([draft('a')])
    await store.agents.ban(nodeId).catch(() => {})
    t.equal(nudges, 1)
    stop()
    await store.entries.deleteMany(['a'])
    t.equal(nudges, 1, 'nobody is told who does not listen any more')
  })
}

const nothing: ChangedState = {
  entries: new Map(), agents: new Map(), bundles: new Map(), federation: new Map(), services: new Map(), endpoints: new Map(),
  revocations: new Map(), authorities: false
}
const endpoint = makeEndpoint('a')
const moved = makeEndpoint('a', '/web', '10.0.0.2')

type Step = readonly [what: string, keys: string, act: (store: Datastore) => Promise<unknown>]

/** In this order, on one database. Names begin with the method; `keys` is empty where nothing changes. */
const steps: readonly Step[] = [
  ['entries.createMany', 'entry:a entry:b', ({ entries }) =>
    entries.createMany([draft('a', { id: 'a' }), draft('b', { id: 'b' }), draft('a', { id: 'again' })])],
  ['entries.createMany: all are there', '', ({ entries }) => entries.createMany([draft('a'), draft('b')])],
  ['entries.createMany: none', '', ({ entries }) => entries.createMany([])],
  ['entries.updateMany', 'entry:a', ({ entries }) => entries.updateMany([{ id: 'a', change: { hint: 'x' } }, { id: 'no', change: {} }])],
  ['entries.updateMany: unknown', '', ({ entries }) => entries.updateMany([{ id: 'no', change: { hint: 'x' } }])],
  ['entries.deleteMany', 'entry:b', ({ entries }) => entries.deleteMany(['b', 'no', 'b'])],
  ['entries.deleteMany: unknown', '', ({ entries }) => entries.deleteMany(['b'])],
  ['entries.createMany: one that expires', 'entry:late', ({ entries }) =>
    entries.createMany([draft('late', { id: 'late', expiresAtSeconds: later.getTime() / 1000 })])],
  ['entries.deleteExpired: none', '', ({ entries }) => entries.deleteExpired(now)],
  ['entries.deleteExpired', 'entry:late', ({ entries }) => entries.deleteExpired(later)],

  ['agents.attest', `agent:${nodeId}`, ({ agents }) => agents.attest(agent('n', { selectors: selectors('x:1') }))],
  ['agents.attest: the same', '', ({ agents }) => agents.attest(agent('n', { selectors: selectors('x:1') }))],
  ['agents.attest: other selectors', `agent:${nodeId}`, ({ agents }) => agents.attest(agent('n', { selectors: selectors('x:2') }))],
  ['agents.attest refused', '', ({ agents }) => agents.attest(agent('m'), { joinToken: 'no such token' })],
  ['agents.setNewSerial', `agent:${nodeId}`, ({ agents }) => agents.setNewSerial(nodeId, 'b2', later)],
  ['agents.setNewSerial: the same', '', ({ agents }) => agents.setNewSerial(nodeId, 'b2', later)],
  ['agents.promoteSerial', `agent:${nodeId}`, ({ agents }) => agents.promoteSerial(nodeId, 'b2')],
  ['agents.promoteSerial: again', '', ({ agents }) => agents.promoteSerial(nodeId, 'b2')],
  ['agents.setVersion', `agent:${nodeId}`, ({ agents }) => agents.setVersion(nodeId, '1.0')],
  ['agents.setVersion: the same', '', ({ agents }) => agents.setVersion(nodeId, '1.0')],
  ['agents.ban', `agent:${nodeId}`, ({ agents }) => agents.ban(nodeId)],
  ['agents.ban: again', '', ({ agents }) => agents.ban(nodeId)],
  ['agents.ban refused: unknown', '', ({ agents }) => agents.ban(agent('m').id)],
  ['entries.createMany: an alias', 'entry:alias', ({ entries }) =>
    entries.createMany([draft('alias', { id: 'alias', parentId: nodeId, selectors: selectors(`spiffe_id:${nodeId}`) })])],
  ['agents.delete', `agent:${nodeId} entry:alias`, ({ agents }) => agents.delete(nodeId)],
  ['agents.delete refused: unknown', '', ({ agents }) => agents.delete(nodeId)],
  ['agents.attest: two', `agent:${nodeId}`, ({ agents }) => agents.attest(agent('n'))],
  ['agents.deleteExpired: none', '', ({ agents }) => agents.deleteExpired(now, { includeTofu: true })],
  ['agents.deleteExpired', `agent:${nodeId}`, ({ agents }) =>
    agents.deleteExpired(new Date(now.getTime() + 7_200_000), { includeTofu: true })],

  ['bundles.create', `bundle:${partner}`, ({ bundles }) => bundles.create(bundle('partner.test'))],
  ['bundles.create refused: there is one', '', ({ bundles }) => bundles.create(bundle('partner.test', { sequenceNumber: 9n }))],
  ['bundles.set: the same', '', ({ bundles }) => bundles.set(bundle('partner.test'))],
  ['bundles.set: another', `bundle:${partner}`, ({ bundles }) => bundles.set(bundle('partner.test', { refreshHintSeconds: 7 }))],
  ['bundles.set: a new one', `bundle:${own}`, ({ bundles }) => bundles.set(bundle(own))],
  ['bundles.update', `bundle:${own}`, ({ bundles }) => bundles.update(own, () => bundle(own, { sequenceNumber: 2n }))],
  ['bundles.update: its argument', '', ({ bundles }) => bundles.update(own, current => current ?? bundle(own))],
  ['bundles.update: an equal one', '', ({ bundles }) => bundles.update(own, () => bundle(own, { sequenceNumber: 2n }))],
  ['entries.updateMany: federation', 'entry:a', ({ entries }) => entries.updateMany([{ id: 'a', change: { federatesWith: [partner] } }])],
  ['bundles.delete refused: in use', '', ({ bundles }) => bundles.delete(partner, 'restrict')],
  ['bundles.delete', `bundle:${partner} entry:a`, ({ bundles }) => bundles.delete(partner, 'dissociate')],

  ['federation.create', `federation:${partner}`, ({ federation }) => federation.create(relationship(partner))],
  ['federation.create refused: there is one', '', ({ federation }) => federation.create(relationship(partner), bundle(partner))],
  ['federation.update: the same', '', ({ federation }) => federation.update(partner, { endpoint: relationship(partner).endpoint })],
  ['federation.update', `federation:${partner}`, ({ federation }) =>
    federation.update(partner, { endpoint: { url: parseBundleEndpointUrl('https://new.test') } })],
  ['federation.update: a bundle', `bundle:${partner}`, ({ federation }) => federation.update(partner, { bundle: bundle(partner) })],
  ['federation.update refused: unknown', '', ({ federation }) => federation.update(own, { bundle: bundle(own) })],
  ['federation.create: with a bundle', 'bundle:b.test federation:b.test', ({ federation }) =>
    federation.create(relationship('b.test'), bundle('b.test'))],
  ['federation.updateBundle: the same', '', ({ federation }) => federation.updateBundle(partner, current => current ?? bundle(partner))],
  ['federation.updateBundle', `bundle:${partner}`, ({ federation }) =>
    federation.updateBundle(partner, () => bundle(partner, { sequenceNumber: 9n }))],
  ['federation.delete', `federation:${partner}`, ({ federation }) => federation.delete(partner)],
  ['federation.delete refused: unknown', '', ({ federation }) => federation.delete(partner)],

  ['authorities.save', 'authorities', ({ authorities }) => authorities.save([authority('1'), authority('2')])],
  ['authorities.save: the same', '', ({ authorities }) => authorities.save([authority('1')])],
  ['authorities.save: none', '', ({ authorities }) => authorities.save([])],
  ['authorities.save: a bundle only', `bundle:${own}`, ({ authorities }) =>
    authorities.save([], { trustDomain: own, change: () => bundle(own, { sequenceNumber: 3n }) })],
  ['authorities.save: both', `authorities bundle:${own}`, ({ authorities }) => authorities.save([authority('1', { state: 'old' })],
    { trustDomain: own, change: () => bundle(own, { sequenceNumber: 4n }) })],
  ['authorities.prune: none', '', ({ authorities }) => authorities.prune(now)],
  ['authorities.prune', 'authorities', ({ authorities }) => authorities.prune(later)],

  ['keys.put', 'authorities', ({ keys }) => keys.put('k', Uint8Array.of(1))],
  ['keys.put: the same', '', ({ keys }) => keys.put('k', Uint8Array.of(1))],
  ['keys.put: another', 'authorities', ({ keys }) => keys.put('k', Uint8Array.of(2))],
  ['keys.delete', 'authorities', ({ keys }) => keys.delete('k')],
  ['keys.delete: unknown', '', ({ keys }) => keys.delete('k')],

  ['services.createMany', 'service:s', ({ services }) =>
    services.createMany([makeServiceDraft({ id: 's' }), makeServiceDraft({ id: 'same-name' })])],
  ['services.createMany: refused', '', ({ services }) => services.createMany([makeServiceDraft({ id: 's', name: 'other' })])],
  ['services.updateMany', 'service:s', ({ services }) => services.updateMany([makeServiceDraft({ id: 's', inbound: 'permissive' })])],
  ['services.updateMany: the same', '', ({ services }) => services.updateMany([makeServiceDraft({ id: 's', inbound: 'permissive' })])],
  ['services.updateMany: unknown', '', ({ services }) => services.updateMany([makeServiceDraft({ id: 'no' })])],
  ['services.deleteMany', 'service:s', ({ services }) => services.deleteMany(['s', 'no', 's'])],
  ['services.deleteMany: unknown', '', ({ services }) => services.deleteMany(['s'])],
  ['endpoints.replace', `endpoint:${endpoint.id}`, ({ endpoints }) => endpoints.replace(new Map([[endpoint.agentId, [endpoint]]]))],
  ['endpoints.replace: the same', '', ({ endpoints }) => endpoints.replace(new Map([[endpoint.agentId, [endpoint]]]))],
  ['endpoints.replace: another', [endpoint.id, moved.id].toSorted().map(id => `endpoint:${id}`).join(' '), ({ endpoints }) =>
    endpoints.replace(new Map([[endpoint.agentId, [moved]]]))],
  ['endpoints.replace: none', `endpoint:${moved.id}`, ({ endpoints }) => endpoints.replace(new Map([[endpoint.agentId, []]]))],

  ['policies.apply', 'policies', ({ policies }) => policies.apply(makePolicyDraft(), 0)],
  ['policies.apply: the same', '', ({ policies }) => policies.apply(makePolicyDraft(), 1)],
  ['policies.apply: refused', '', ({ policies }) => policies.apply(makePolicyDraft(['other']), 7)],
  ['policies.apply: another', 'policies', ({ policies }) => policies.apply(makePolicyDraft(['other']), 1)],

  ['joinTokens.create', '', ({ joinTokens }) => joinTokens.create('token', later)],
  ['joinTokens.prune', '', ({ joinTokens }) => joinTokens.prune(later)],
  ['replicas.report', '', ({ replicas }) =>
    replicas.report({ id: 'r', name: 'h', version: '1', startedAt: now, cursor: { epoch: 'e', number: 1 }, facts: {} })],
  ['replicas.remove', '', ({ replicas }) => replicas.remove('r')],
  ['replicas.prune', '', ({ replicas }) => replicas.prune(later)],
  ['progress.report', '', ({ progress }) => progress.report([
    { agentId: id('/n'), replicaId: 'r', state: 'acknowledged', cursor: { epoch: 'e', number: 1 }, unservedEntryIds: [], seenAt: now }
  ])],
  ['progress.leave', '', ({ progress }) => progress.leave('r', now, [id('/n')])],
  ['progress.prune', '', ({ progress }) => progress.prune(later)]
]

const readers = new Set(['constructor', 'get', 'getMany', 'list', 'count', 'all', 'check', 'getByName', 'active'])

function mutatingMethods (store: Stores): string[] {
  const aggregates = [
    'entries', 'agents', 'bundles', 'federation', 'services', 'endpoints', 'policies', 'authorities', 'keys', 'joinTokens', 'replicas',
    'progress'
  ] as const
  return aggregates.flatMap(name => Object.getOwnPropertyNames(Object.getPrototypeOf(store[name]))
    .filter(method => !readers.has(method)).map(method => `${name}.${method}`))
}

function describe ({ entries, agents, bundles, federation, services, endpoints, authorities, policies }: ChangedState): string {
  return [
    ...[...agents.keys()].map(key => `agent:${key}`),
    ...authorities ? ['authorities'] : [],
    ...[...bundles.keys()].map(key => `bundle:${key}`),
    ...[...endpoints.keys()].map(key => `endpoint:${key}`).toSorted(),
    ...[...entries.keys()].map(key => `entry:${key}`).toSorted(),
    ...[...federation.keys()].map(key => `federation:${key}`),
    ...policies === undefined ? [] : ['policies'],
    ...[...services.keys()].map(key => `service:${key}`).toSorted()
  ].join(' ')
}

function authority (authorityId: string, rest: Partial<StoredAuthority> = {}): StoredAuthority {
  return {
    authorityId, kind: 'x509', slot: 'A', state: 'active', publicKey: Uint8Array.of(1, 2), notBefore: now, notAfter: later, ...rest
  }
}

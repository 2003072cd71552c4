import type { Test } from 'tap'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import type { BundleDeleteMode } from '../../src/storage/bundle-store.ts'
import type { StoredAuthority } from '../../src/storage/authority-store.ts'
import { bundle, domain, draft, everyPage, openFresh, type DatabaseKind } from './fixture.ts'

const a = domain('a.test')
const b = domain('b.test')

export async function bundleContract (t: Test, database: DatabaseKind): Promise<void> {
  await t.test('a bundle comes back as it was given', async t => {
    const { store } = await openFresh(t, database)
    const full = bundle('a.test', {
      x509Authorities: [{ certificate: Uint8Array.of(0, 1, 255), tainted: false }, { certificate: Uint8Array.of(7), tainted: true }],
      jwtAuthorities: [
        { keyId: 'k"1', publicKey: Uint8Array.of(3, 0), expiresAt: new Date(1_767_225_600_123), tainted: true },
        { keyId: 'k2', publicKey: Uint8Array.of(9), tainted: false }
      ],
      sequenceNumber: 2n ** 64n - 1n,
      refreshHintSeconds: 300
    })
    t.strictSame(await store.bundles.create(full), full)
    t.strictSame(await store.bundles.get(a), full)
    await t.rejects(store.bundles.create(bundle('a.test')), { code: 'bundle_exists' })
    t.strictSame(await store.bundles.get(a), full, 'a refused create changes nothing')
    const bare: Bundle = { trustDomain: a, x509Authorities: [], jwtAuthorities: [] }
    t.strictSame(await store.bundles.set(bare), bare, 'set replaces; what is absent stays absent')
    t.strictSame(await store.bundles.get(a), bare)
    t.equal(await store.bundles.get(b), undefined)
    await store.bundles.set(bundle('b.test'))
    t.equal(await store.bundles.count(), 2)
    const first = await store.bundles.list({ size: 1, token: '' })
    const second = await store.bundles.list({ size: 1, token: first.nextPageToken })
    t.strictSame([...first.bundles, ...second.bundles], [bare, bundle('b.test')])
    t.strictSame(await store.bundles.list({ size: 1, token: second.nextPageToken }), { bundles: [], nextPageToken: '' })
    t.equal((await store.bundles.list(everyPage)).bundles.length, 2)
  })

  await t.test('TDB-06 concurrent changes are never lost', async t => {
    const { store } = await openFresh(t, database)
    const add = (n: number) => store.bundles.update(a, current => bundle('a.test', {
      x509Authorities: [...current?.x509Authorities ?? [], { certificate: Uint8Array.of(n), tainted: false }],
      sequenceNumber: (current?.sequenceNumber ?? 0n) + 1n
    }))
    const results = await Promise.all(Array.from({ length: 40 }, (_, n) => add(n)))
    const stored = await store.bundles.get(a)
    t.equal(stored?.sequenceNumber, 40n)
    t.equal(new Set(stored?.x509Authorities.map(({ certificate }) => certificate[0])).size, 40, 'each authority is there')
    t.equal(new Set(results.map(({ sequenceNumber }) => sequenceNumber)).size, 40, 'no two got the same sequence number')
    await t.rejects(store.bundles.update(a, () => { throw new Error('changed my mind') }), { message: 'changed my mind' })
    await t.rejects(store.bundles.update(b, () => { throw new Error('changed my mind') }), { message: 'changed my mind' })
    t.strictSame(await store.bundles.get(a), stored, 'what a change throws leaves the bundle alone')
    t.equal(await store.bundles.get(b), undefined)
  })

  await t.test('deletion and the entries that federate', async t => {
    const { store } = await openFresh(t, database)
    const prepare = async () => {
      await store.entries.deleteMany(['none', 'one', 'both'])
      for (const name of ['a.test', 'b.test']) await store.bundles.set(bundle(name))
      await store.entries.createMany([draft('none', { id: 'none' }), draft('one', { id: 'one', federatesWith: [a] }),
        draft('both', { id: 'both', federatesWith: [a, b] })])
    }
    const outcome = async (mode: BundleDeleteMode) => {
      const { bundle: gone, updatedEntries, deletedEntries } = await store.bundles.delete(a, mode)
      const left = (await store.entries.list({}, everyPage)).entries.map(entry => [entry.id, entry.revisionNumber, ...entry.federatesWith])
      const text = ({ id, revisionNumber, federatesWith }: { id: string, revisionNumber: number, federatesWith: readonly string[] }) =>
        [id, revisionNumber, ...federatesWith].join(' ')
      return { gone: gone.trustDomain, updated: updatedEntries.map(text).toSorted(), deleted: deletedEntries.map(text).toSorted(), left }
    }
    await prepare()
    await t.rejects(store.bundles.delete(a, 'restrict'),
      { code: 'bundle_in_use', message: 'cannot delete bundle; federated with 2 registration entries' })
    t.ok(await store.bundles.get(a))
    t.strictSame(await outcome('dissociate'), {
      gone: a, updated: ['both 1 b.test', 'one 1'], deleted: [], left: [['none', 0], ['one', 1], ['both', 1, 'b.test']]
    }, 'the link goes, the revision tells the agents')
    t.equal(await store.bundles.get(a), undefined)
    t.equal(await store.entries.count({ federatesWith: { match: 'exact', values: [b] } }), 1, 'filters follow')
    await t.rejects(store.bundles.delete(a, 'delete'), { code: 'bundle_not_found' })
    await prepare()
    t.strictSame(await outcome('delete'), { gone: a, updated: [], deleted: ['both 0 a.test b.test', 'one 0 a.test'], left: [['none', 0]] })
    await store.bundles.delete(b, 'restrict')
    t.equal(await store.bundles.count(), 0, 'restrict deletes what nobody uses')
  })

  await t.test('a bundle that goes while entries come', async t => {
    const { store } = await openFresh(t, database)
    await store.bundles.set(bundle('a.test'))
    const [removal, ...outcomes] = await Promise.all([
      store.bundles.delete(a, 'delete'),
      ...Array.from({ length: 10 }, (_, n) => store.entries.createMany([draft(`w${n}`, { federatesWith: [a] })]))
    ])
    t.equal(removal.bundle.trustDomain, a)
    for (const [outcome] of outcomes) {
      t.ok(outcome?.kind === 'created' || (outcome?.kind === 'refused' && outcome.error.code === 'federated_bundle_unknown'))
    }
    t.equal(await store.entries.count({}), 0, 'no entry federates with nothing')
  })

  await t.test('the journal of authorities', async t => {
    const { store } = await openFresh(t, database)
    const authority = (authorityId: string, rest: Partial<StoredAuthority> = {}): StoredAuthority => ({
      authorityId, kind: 'x509', slot: 'A', state: 'prepared', publicKey: Uint8Array.of(1, 2),
      notBefore: new Date(1_000), notAfter: new Date(2_000), ...rest
    })
    const first = authority('1', { certificate: Uint8Array.of(0, 255), state: 'active', upstreamAuthorityId: 'up' })
    const second = authority('2', { slot: 'B' })
    const jwt = authority('1', { kind: 'jwt', notAfter: new Date(5_000) })
    await store.authorities.save([first, second, jwt])
    t.strictSame(await store.authorities.list('x509'), [first, second])
    t.strictSame(await store.authorities.list('jwt'), [jwt])
    const rotated = [{ ...first, state: 'old' as const }, { ...second, state: 'active' as const }]
    await store.authorities.save(rotated.toReversed())
    t.strictSame(await store.authorities.list('x509'), rotated, 'replaced in place')
    const broken = { ...second, slot: null as unknown as 'A' }
    await t.rejects(store.authorities.save([{ ...first, state: 'active' }, broken]), { message: /null/i }, 'a row the database refuses')
    t.strictSame(await store.authorities.list('x509'), rotated, 'takes the others with it')
    t.strictSame(await store.authorities.prune(new Date(1_999)), [])
    t.strictSame(await store.authorities.prune(new Date(2_000)), [rotated[0]], 'old and expired; the active one stays')
    t.strictSame(await store.authorities.list('x509'), [rotated[1]])
  })
}

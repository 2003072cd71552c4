import { hash } from 'node:crypto'
import t from 'tap'
import { EntryIndex } from '../../src/agent/entry-index.ts'
import { NodeIdentities } from '../../src/agent/node-identities.ts'
import { SvidCache, type SvidSigner } from '../../src/agent/svid-cache.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import type { Entry } from '../../src/spiffe/entry.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseSelector } from '../../src/spiffe/selector.ts'
import type { WorkloadIdentity } from '../../src/spiffe/svid.ts'
import { parseTrustDomain, type TrustDomain } from '../../src/spiffe/trust-domain.ts'
import { prepareLeafIssuer } from '../../src/x509/leaf-issuer.ts'
import { parseCertificateRequest } from '../../src/x509/certificate-request.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock, settle, until } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { makeEntry } from '../fakes/entries.ts'

const domain = parseTrustDomain('example.org')
const web = ['unix:uid:1'].map(parseSelector)

/** An agent's identities over a signer that can be stopped, refuse entries, and counts. */
async function setUp (options: { maxSize?: number, ttlMs?: number } = {}) {
  const clock = new ManualClock('2026-05-01T00:00:00Z')
  const authority = await createTestAuthority(domain, { notBefore: new Date('2026-01-01'), notAfter: new Date('2027-01-01') })
  const issuer = prepareLeafIssuer(authority.certificate, authority.signer)
  const entries = new Map<string, Entry>()
  const state = { signed: [] as string[], refuse: new Set<string>(), down: false, calls: 0, rounds: 0, most: 500, asked: [] as number[] }
  const { log, lines } = capturedLog()
  const signer: SvidSigner = {
    async signX509Svids (orders) {
      state.calls++
      state.asked.push(orders.length)
      if (state.down || orders.length > state.most) throw new SpiffeError('server_unreachable', 'down')
      return await Promise.all(orders.map(async ({ entryId, csr }) => {
        if (state.refuse.has(entryId)) return new SpiffeError('entry_not_authorized', 'no')
        const entry = entries.get(entryId) as Entry
        const { publicKey } = parseCertificateRequest(csr)
        state.signed.push(entryId)
        const notAfter = new Date(clock.now().getTime() + (options.ttlMs ?? 3_600_000))
        return [await issuer.issue(
          { id: entry.spiffeId, publicKey, dnsNames: [], notBefore: new Date(clock.now().getTime() - 10_000), notAfter }
        )]
      }))
    }
  }
  const svids = new SvidCache({ keyType: 'ec-p256', maxSize: options.maxSize ?? 1000, random: () => 0 }, clock, log)
  const due = svids.due.bind(svids)
  svids.due = (...asked) => { state.rounds++; return due(...asked) }
  const identities = new NodeIdentities(authority.bundle, svids, clock)
  const stop = new AbortController()
  const running = identities.run(signer, stop.signal)
  const set = (...list: Entry[]) => {
    entries.clear()
    for (const entry of list) entries.set(entry.id, entry)
    identities.setEntries(new EntryIndex(list))
  }
  return { clock, authority, identities, svids, state, lines, set, async [Symbol.asyncDispose] () {
    stop.abort(new Error('over')); await running.catch(() => {})
  } }
}

/** Follows one workload: the states seen so far, by their IDs. */
function follow (identities: NodeIdentities, selectors = web) {
  const stop = new AbortController()
  const seen: WorkloadIdentity[] = []
  const done = (async () => { for await (const identity of identities.watch(selectors, stop.signal)) seen.push(identity) })()
  return { seen, ids: () => seen.map(({ svids }) => svids.map(
    svid => svid.id.replace('spiffe://example.org', '')
  ).join(' ')), async [Symbol.asyncDispose] () { stop.abort(); await done } }
}

await t.test('nothing is said before the entries are known; then the whole state', async t => {
  await using node = await setUp()
  await using workload = follow(node.identities)
  await settle()
  t.same(workload.ids(), [])
  node.set(makeEntry({ id: 'a', spiffeId: '/a', selectors: ['unix:uid:1'] }), makeEntry(
    { id: 'b', spiffeId: '/b', selectors: ['unix:uid:1'] }
  ))
  await until(() => workload.seen.length > 0)
  t.same(workload.ids(), ['/a /b'], 'one state, with both')
})

await t.test('a workload without a matching entry sees an empty state, and keys are private to each SVID', async t => {
  await using node = await setUp()
  node.set(makeEntry({ id: 'a', selectors: ['unix:uid:1', 'unix:gid:9'] }))
  await using workload = follow(node.identities)
  await until(() => workload.seen.length > 0)
  t.same(workload.ids(), [''], 'an entry needs all of its selectors')
})

await t.test('a new entry waits for its SVID, a withdrawn one does not wait for anything', async t => {
  await using node = await setUp()
  const a = makeEntry({ id: 'a', spiffeId: '/a', selectors: ['unix:uid:1'] })
  const b = makeEntry({ id: 'b', spiffeId: '/b', selectors: ['unix:uid:1'] })
  node.set(a)
  await using workload = follow(node.identities)
  await until(() => workload.seen.length === 1)
  node.state.down = true
  node.set(a, b)
  await settle()
  t.same(workload.ids(), ['/a'], 'b is not shown half')
  node.set(b)
  t.same((await settle(), workload.ids()), ['/a', ''], 'a is gone at once though b cannot be signed')
  node.state.down = false
  await node.clock.advance(10_000)
  await until(() => workload.seen.length === 3)
  t.same(workload.ids(), ['/a', '', '/b'])
})

await t.test('WLAPI-09: an entry that cannot be signed holds up neither renewals of the same workload nor its bundles', async t => {
  await using node = await setUp({ ttlMs: 100_000 })
  const a = makeEntry({ id: 'a', spiffeId: '/a', selectors: ['unix:uid:1'] })
  node.set(a)
  await using workload = follow(node.identities)
  await until(() => workload.seen.length === 1)
  node.state.refuse.add('b')
  node.set(a, makeEntry({ id: 'b', spiffeId: '/b', selectors: ['unix:uid:1'] }))
  await until(() => node.identities.unservedEntryIds.includes('b'))
  t.same(workload.ids(), ['/a'], 'b is not there')
  const bundle = { ...node.authority.bundle, x509Authorities: [] }
  node.identities.setBundles(bundle, new Map())
  await until(() => workload.seen.length === 2)
  t.equal(workload.seen[1]?.bundle, bundle, 'an authority that was taken away is gone at once')
  await node.clock.advance(50_000)
  await until(() => workload.seen.length === 3)
  t.not(workload.seen[2]?.svids[0], workload.seen[1]?.svids[0], 'a is renewed at half of its life, not after it')
  node.state.refuse.clear()
  await node.clock.advance(60_000)
  await until(() => workload.ids().at(-1) === '/a /b')
})

await t.test('a changed entry is shown as before until it is signed anew, its partners at once', async t => {
  await using node = await setUp()
  const partner = parseTrustDomain('partner.example')
  const entries = ['a', 'b'].map(id => makeEntry({ id, spiffeId: `/${id}`, selectors: ['unix:uid:1'], federatesWith: [partner] }))
  node.identities.setBundles(node.authority.bundle, new Map([[partner, { ...node.authority.bundle, trustDomain: partner }]]))
  node.set(...entries)
  await using workload = follow(node.identities)
  await until(() => workload.seen.length === 1)
  node.state.down = true
  node.set(...entries.map(entry => ({ ...entry, federatesWith: [], revisionNumber: entry.revisionNumber + 1 })))
  await until(() => workload.seen.length === 2)
  t.same(workload.ids(), ['/a /b', '/a /b'], 'no identity is taken away')
  t.same(workload.seen.map(({ federatedBundles }) => federatedBundles.size), [1, 0], 'but the partner is')
})

await t.test('a new entry\'s partners are shown with its SVID, not before', async t => {
  await using node = await setUp()
  const partner = parseTrustDomain('partner.example')
  const a = makeEntry({ id: 'a', spiffeId: '/a', selectors: ['unix:uid:1'] })
  node.identities.setBundles(node.authority.bundle, new Map([[partner, { ...node.authority.bundle, trustDomain: partner }]]))
  node.set(a)
  await using workload = follow(node.identities)
  await until(() => workload.seen.length === 1)
  node.set(a, makeEntry({ id: 'b', spiffeId: '/b', selectors: ['unix:uid:1'], federatesWith: [partner] }))
  await until(() => workload.ids().at(-1) === '/a /b')
  t.same(workload.seen.map(({ federatedBundles }) => federatedBundles.size), [0, 1])
})

await t.test('of entries with the same hint the oldest is kept; order is by entry id (WLAPI-35 WLAPI-36)', async t => {
  await using node = await setUp()
  node.set(
    makeEntry({ id: '1', spiffeId: '/young', hint: 'h', createdAtSeconds: 20, selectors: ['unix:uid:1'] }),
    makeEntry({ id: '2', spiffeId: '/old', hint: 'h', createdAtSeconds: 10, selectors: ['unix:uid:1'] }),
    makeEntry({ id: '0', spiffeId: '/plain', createdAtSeconds: 30, selectors: ['unix:uid:1'] }))
  await using workload = follow(node.identities)
  await until(() => workload.seen.length === 1)
  t.same(workload.ids(), ['/plain /old'])
})

await t.test('SVIDs are renewed at half-life; when renewal fails the old one serves until it expires, and not longer', async t => {
  await using node = await setUp({ ttlMs: 100_000 })
  node.set(makeEntry({ id: 'a', spiffeId: '/a', selectors: ['unix:uid:1'] }))
  await using workload = follow(node.identities)
  await until(() => workload.seen.length === 1)
  await node.clock.advance(50_000)
  await until(() => workload.seen.length === 2)
  t.not(workload.seen[0]?.svids[0], workload.seen[1]?.svids[0], 'renewed')
  t.notSame(workload.seen[0]?.svids[0]?.privateKey, workload.seen[1]?.svids[0]?.privateKey, 'with a new key')
  node.state.down = true
  await node.clock.advance(90_000)
  await settle()
  t.equal(workload.seen.length, 2, 'still served')
  for (let step = 0; step < 6; step++) await node.clock.advance(5000)
  await until(() => workload.seen.length === 3)
  t.same(workload.ids().at(-1), '', 'expired: withdrawn')
  t.equal(workload.seen.at(-1)?.awaitsSvids, true, 'but not for lack of an entry')
})

await t.test('one entry that cannot be signed does not hold back another workload', async t => {
  await using node = await setUp()
  node.state.refuse.add('bad')
  node.set(makeEntry({ id: 'bad', spiffeId: '/bad', selectors: ['unix:uid:2'] }), makeEntry(
    { id: 'a', spiffeId: '/a', selectors: ['unix:uid:1'] }
  ))
  await using workload = follow(node.identities)
  await until(() => workload.seen.length === 1)
  t.same(workload.ids(), ['/a'])
})

await t.test('watched entries come first, the rest are fetched ahead up to the limit', async t => {
  await using node = await setUp({ maxSize: 2 })
  node.set(...[1, 2, 3, 4].map(n => makeEntry({ id: `${n}`, spiffeId: `/w${n}`, selectors: [`unix:uid:${n}`] })))
  await until(() => node.svids.size === 2)
  await using workload = follow(node.identities, ['unix:uid:4'].map(parseSelector))
  await until(() => workload.seen.length === 1)
  t.same(workload.ids(), ['/w4'], 'beyond the limit, but asked for')
})

await t.test('equal selector sets share one view, and it goes with its last watcher', async t => {
  await using node = await setUp()
  node.set(makeEntry({ id: 'a', spiffeId: '/a', selectors: ['unix:uid:1'] }))
  {
    await using first = follow(node.identities, ['unix:uid:1', 'unix:gid:1'].map(parseSelector))
    await using second = follow(node.identities, ['unix:gid:1', 'unix:uid:1', 'unix:uid:1'].map(parseSelector))
    await until(() => first.seen.length === 1 && second.seen.length === 1)
    t.equal(node.identities.views, 1)
    t.equal(first.seen[0], second.seen[0], 'the very same object, so it is encoded once')
  }
  t.equal(node.identities.views, 0)
})

await t.test('federated bundles appear only for entries that name them, and vanish again', async t => {
  await using node = await setUp()
  const partner = parseTrustDomain('partner.org')
  const other = parseTrustDomain('other.org')
  const bundles = new Map<TrustDomain, Bundle>()
  for (const name of [partner, other]) bundles.set(name, (await createTestAuthority(name)).bundle)
  node.identities.setBundles(node.authority.bundle, bundles)
  node.set(makeEntry({ id: 'a', selectors: ['unix:uid:1'], federatesWith: [partner] }))
  await using workload = follow(node.identities)
  await until(() => workload.seen.length === 1)
  t.same([...workload.seen[0]?.federatedBundles.keys() ?? []], [partner], 'TDB-21 what else the agent has is not for this workload')
  node.identities.setBundles(node.authority.bundle, new Map([[other, bundles.get(other) as Bundle]]))
  await until(() => workload.seen.length === 2)
  t.equal(workload.seen[1]?.federatedBundles.size, 0, 'WLAPI-15')
})

await t.test('an SVID that nobody wants any more is dropped instead of being looked at again and again', async t => {
  await using node = await setUp({ ttlMs: 100_000 })
  const attributes = { disableX509SvidPrefetch: true, jwtSvidIncludeJti: false }
  node.state.refuse.add('bad')
  node.set(
    makeEntry({ id: 'a', spiffeId: '/a', selectors: ['unix:uid:1'], additionalAttributes: attributes }),
    makeEntry({ id: 'bad', spiffeId: '/bad', selectors: ['unix:uid:2'], additionalAttributes: attributes })
  )
  {
    await using workload = follow(node.identities)
    await using refused = follow(node.identities, ['unix:uid:2'].map(parseSelector))
    await until(() => workload.seen.length === 1)
    t.same(refused.ids(), [])
  }
  await node.clock.advance(40_000)
  t.equal(node.svids.size, 1, 'one that comes back soon finds it')
  await node.clock.advance(20_000)
  t.equal(node.svids.size, 0, 'nobody renews it, nobody keeps its key')
  const before = node.state.rounds
  await node.clock.advance(60_000)
  t.ok(node.state.rounds - before <= 13, `${node.state.rounds - before} looks in a minute`)
})

await t.test('above the limit the least recently used SVIDs go, and never one with a watcher (spire-surface §2.3)', async t => {
  await using node = await setUp({ maxSize: 2 })
  node.set(...[1, 2, 3, 4, 5].map(n => makeEntry({ id: `${n}`, spiffeId: `/w${n}`, selectors: [`unix:uid:${n}`] })))
  await until(() => node.svids.size === 2)
  t.same(node.state.signed.splice(0), ['1', '2'], 'while nobody asks, the first')
  const watch = async (n: number) => {
    const workload = follow(node.identities, [`unix:uid:${n}`].map(parseSelector))
    await until(() => workload.seen.length === 1)
    return workload
  }
  const visit = async (n: number) => {
    await (await watch(n))[Symbol.asyncDispose]()
    await node.clock.advance(5000)
  }
  for (const n of [3, 4, 3]) await visit(n)
  t.same(node.state.signed.splice(0), ['3', '4'], 'one that was used lately is kept for who comes back; what nobody used goes for it')
  await visit(5)
  await visit(3)
  t.same(node.state.signed.splice(0), ['5'], 'the one that was used before it went')
  await visit(4)
  t.same(node.state.signed.splice(0), ['4'])
  t.equal(node.svids.size, 2)

  const watchers = [await watch(1), await watch(2), await watch(3)]
  await node.clock.advance(60_000)
  t.equal(node.svids.size, 3, 'all that are watched stay, above the limit, and nothing else')
  node.state.signed.length = 0
  for (const watcher of watchers) await watcher[Symbol.asyncDispose]()
  await node.clock.advance(5000)
  t.equal(node.svids.size, 2)
  t.same(node.state.signed, [], 'and nothing is signed for nobody')
})

await t.test('what is not fetched ahead is kept for who comes back like any other', async t => {
  await using node = await setUp({ maxSize: 1 })
  const additionalAttributes = { disableX509SvidPrefetch: true, jwtSvidIncludeJti: false }
  node.set(
    makeEntry({ id: '1', spiffeId: '/w1', selectors: ['unix:uid:1'] }),
    makeEntry({ id: '2', spiffeId: '/w2', selectors: ['unix:uid:2'], additionalAttributes })
  )
  await until(() => node.svids.size === 1)
  for (const _ of [1, 2]) {
    await using workload = follow(node.identities, ['unix:uid:2'].map(parseSelector))
    await until(() => workload.seen.length === 1)
    await node.clock.advance(5000)
  }
  t.same(node.state.signed, ['1', '2'])
})

await t.test('a server that is too slow for many at once is asked for fewer (spire-surface §2.3)', async t => {
  await using node = await setUp()
  node.state.most = 100
  node.set(...Array.from({ length: 400 }, (_, n) => makeEntry({ id: `${n}`, spiffeId: `/w${n}`, selectors: [`unix:uid:${n}`] })))
  await eventually('all to be signed', async () => {
    await node.clock.advance(1000)
    return node.svids.size === 400
  }, 60_000)
  t.same(node.state.asked.slice(0, 4), [400, 250, 125, 62], 'half as many after each failure')
  t.ok(node.state.asked.filter(count => count > 100).length < 10, 'and more again only after a success')
})

await t.test('while the server is away, one call asks for all and one line says so, and nothing spins', async t => {
  await using node = await setUp({ ttlMs: 100_000 })
  node.state.down = true
  node.set(...Array.from({ length: 501 }, (_, n) => makeEntry({ id: `${n}`, spiffeId: `/w${n}`, selectors: [`unix:uid:${n}`] })))
  await until(() => node.lines.some(line => line.level === 'warn'))
  await settle()
  t.equal(node.state.calls, 1)
  t.same(node.lines.filter(line => line.level === 'warn').map(line => line.entries), [501])
  node.state.down = false
  node.set(makeEntry({ id: 'a', spiffeId: '/a', selectors: ['unix:uid:1'] }))
  await using workload = follow(node.identities)
  await until(() => workload.seen.length === 1)
  await node.clock.advance(45_000)
  node.state.down = true
  const before = node.state.rounds
  await node.clock.advance(40_000)
  t.ok(node.state.rounds - before < 30, `${node.state.rounds - before} looks in 40 s, at an SVID that cannot be renewed`)
})

await t.test('an entry for a secret store is not served to workloads (spire-surface §3.1)', async t => {
  await using node = await setUp()
  node.set(makeEntry({ id: 'a', spiffeId: '/a', selectors: ['unix:uid:1'], storeSvid: true }))
  await using workload = follow(node.identities)
  await until(() => workload.seen.length > 0)
  t.same(workload.ids(), [''])
  t.same(node.identities.entriesFor(web), [], 'neither are its JWT-SVIDs')
})

await t.test('a revoked SVID is gone at once, for streams and for who comes later, and replaced', async t => {
  await using node = await setUp()
  node.set(...['a', 'b'].map(id => makeEntry({ id, spiffeId: `/${id}`, selectors: ['unix:uid:1'] })))
  await using workload = follow(node.identities)
  await until(() => workload.seen.length === 1)
  const [a, b] = workload.seen[0]?.svids ?? []
  const digests = new Set([hash('sha256', a?.chain[0] ?? '')])
  node.state.down = true
  const { revision } = node.identities
  node.identities.dropRevoked(digests)
  t.ok(node.identities.revision > revision)
  await settle()
  t.strictSame(workload.ids(), ['/a /b', '/b'], 'it waits for nobody\'s signature')
  t.equal(node.svids.svidOf(node.identities.entries.get('a') as Entry), undefined, 'who comes now does not see it either')
  const kept = { entryId: 'a', chain: a?.chain ?? [], privateKey: a?.privateKey ?? new Uint8Array(), receivedAtMs: 0, renewAtMs: 0 }
  t.equal(node.svids.restore([kept], node.identities.entries), 1, 'nor does a cache bring it back: b alone is there')
  node.state.down = false
  await node.clock.advance(10_000)
  await until(() => workload.ids().at(-1) === '/a /b')
  const [again, other] = workload.seen.at(-1)?.svids ?? []
  t.not(again, a, 'a new one')
  t.equal(other, b, 'the other one stays')
  node.identities.dropRevoked(new Set())
  await settle()
  t.equal(workload.ids().at(-1), '/a /b', 'lifting changes nothing')
})

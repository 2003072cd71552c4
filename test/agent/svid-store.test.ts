import { hash } from 'node:crypto'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { agentCatalog } from '../../src/agent/agent-catalog.ts'
import { EntryIndex } from '../../src/agent/entry-index.ts'
import { NodeIdentities } from '../../src/agent/node-identities.ts'
import { SvidCache, type SvidSigner } from '../../src/agent/svid-cache.ts'
import { storeSvids } from '../../src/agent/svid-store/store-svids.ts'
import { pluginSchemas } from '../../src/plugins/catalog.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { prepareLeafIssuer } from '../../src/x509/leaf-issuer.ts'
import { parseCertificateRequest } from '../../src/x509/certificate-request.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { securityHeader, startTestAgent } from '../fakes/agent.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { type EntryOptions, idOf, makeEntry } from '../fakes/entries.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'
import { FakeSvidStore } from '../fakes/svid-store.ts'

const domain = parseTrustDomain('example.org')
const partner = parseTrustDomain('partner.org')
const away = new SpiffeError('key_service_unreachable', 'away')

/** A node's identities with stores, on a clock that the test moves. */
async function nodeOf (t: Test, ...stores: readonly FakeSvidStore[]) {
  const clock = new ManualClock('2026-05-01T00:00:00Z')
  const life = { notBefore: new Date('2026-01-01'), notAfter: new Date('2027-01-01') }
  const [authority, other, later] = await Promise.all([domain, partner, domain].map(name => createTestAuthority(name, life)))
  if (authority === undefined || other === undefined || later === undefined) throw new Error('no authorities')
  const issuer = prepareLeafIssuer(authority.certificate, authority.signer)
  const { log, lines } = capturedLog()
  const entries = new Map<string, ReturnType<typeof makeEntry>>()
  const signed: string[] = []
  const refused = new Set<string>()
  const signer: SvidSigner = {
    signX509Svids: async orders => await Promise.all(orders.map(async ({ entryId, csr }) => {
      if (refused.has(entryId)) return new SpiffeError('spiffe_id_revoked', 'revoked')
      signed.push(entryId)
      const { publicKey } = parseCertificateRequest(csr)
      const now = clock.now().getTime()
      return [await issuer.issue({
        id: entries.get(entryId)?.spiffeId ?? idOf('/none'), publicKey, dnsNames: [],
        notBefore: new Date(now - 10_000), notAfter: new Date(now + 3_600_000)
      })]
    }))
  }
  const svids = new SvidCache({ keyType: 'ec-p256', maxSize: 1000, random: () => 0 }, clock, log)
  const identities = new NodeIdentities(authority.bundle, svids, clock, new Set(stores.map(({ name }) => name)))
  const stop = new AbortController()
  const tasks = Promise.all([identities.run(signer, stop.signal), storeSvids({ stores, identities, clock, log }, stop.signal)])
  tasks.catch(() => {})
  t.teardown(async () => {
    stop.abort(new Error('over'))
    await tasks.catch(() => {})
  })
  const set = (...list: EntryOptions[]) => {
    const made = list.map(options => makeEntry({ storeSvid: true, ...options }))
    entries.clear()
    for (const entry of made) entries.set(entry.id, entry)
    identities.setEntries(new EntryIndex(made))
  }
  return { clock, authority, later, other, identities, lines, signed, refused, set }
}

/** Until it is so, on the test's clock; keys are made on real threads. */
async function until (clock: ManualClock, what: string, isSo: () => boolean): Promise<void> {
  await eventually(what, async () => {
    await clock.advance(100)
    return isSo()
  }, 30_000)
}

void t.test('an SVID is put as it is signed, renewed or trusted otherwise, and deleted with its entry', async t => {
  const store = new FakeSvidStore()
  const { clock, authority, later, other, identities, set } = await nodeOf(t, store)
  identities.setBundles(authority.bundle, new Map([[partner, other.bundle]]))
  set({ id: 'a', spiffeId: '/db', selectors: ['vaultlike:name:db', 'vaultlike:region:eu'], federatesWith: [partner, domain] })
  const place = 'name:db region:eu'
  await until(clock, 'it is stored', () => store.held.has(place))
  const first = store.held.get(place)
  t.equal(verifyX509Svid(first?.svid.chain ?? [], { bundleOf: authority.bundleOf, at: clock.now() }).id, idOf('/db'))
  t.ok((first?.svid.privateKey.length ?? 0) > 0)
  t.strictSame(first?.metadata, ['name:db', 'region:eu'])
  t.strictSame(first?.bundle, [authority.certificate.raw])
  t.strictSame([...first?.federatedBundles ?? []], [[partner, [other.certificate.raw]]], 'the own bundle is none of a partner\'s')

  await clock.advance(60_000)
  t.strictSame(store.calls, [`put ${place}`], 'what has not changed is not put again')
  await clock.advance(35 * 60_000)
  await until(clock, 'it is renewed', () => store.held.get(place)?.svid !== first?.svid)
  const both: Bundle = { ...authority.bundle, x509Authorities: [...authority.bundle.x509Authorities, ...later.bundle.x509Authorities] }
  identities.setBundles(both, identities.federatedBundles)
  await until(clock, 'the bundle is put', () => store.held.get(place)?.bundle.length === 2)
  identities.setBundles(both, new Map())
  await until(clock, 'the partner\'s is gone', () => store.held.get(place)?.federatedBundles.size === 0)

  store.calls.splice(0)
  set({ id: 'a', spiffeId: '/db', selectors: ['vaultlike:name:other'], revisionNumber: 1 })
  await until(clock, 'it lies elsewhere', () => store.held.has('name:other'))
  t.strictSame(store.calls.splice(0), [`delete ${place}`, 'put name:other'])
  set()
  await until(clock, 'it is gone', () => store.held.size === 0)
})

void t.test('a store that fails is asked again, every five seconds', async t => {
  const store = new FakeSvidStore()
  const well = new FakeSvidStore('well')
  const { clock, lines, set } = await nodeOf(t, store, well)
  store.failure = away
  set({ id: 'a', spiffeId: '/a', selectors: ['vaultlike:a'] }, { id: 'b', spiffeId: '/b', selectors: ['well:b'] })
  await until(clock, 'the other store has its own', () => well.held.size === 1)
  await until(clock, 'it was asked', () => store.calls.length > 0)
  const before = store.calls.length
  await clock.advance(30_000)
  const asked = store.calls.length - before
  t.ok(asked >= 3 && asked <= 7, `asked ${asked} times in half a minute`)
  t.match(lines.find(({ level }) => level === 'warn'), { entry: 'a', store: 'vaultlike', err: { code: 'key_service_unreachable' } })
  store.failure = undefined
  await until(clock, 'it is stored', () => store.held.size === 1)
  store.failure = away
  set()
  await until(clock, 'the other one is deleted', () => well.held.size === 0)
  await clock.advance(20_000)
  store.failure = undefined
  await until(clock, 'it is deleted after all', () => store.held.size === 0)
  set({ id: 'a', spiffeId: '/a', selectors: ['vaultlike:a'] })
  await until(clock, 'it is back', () => store.held.size === 1)
  store.failure = new SpiffeError('argument_invalid', 'no such place')
  store.calls.splice(0)
  set()
  await until(clock, 'it was asked to delete', () => store.calls.length > 0)
  await clock.advance(30_000)
  t.strictSame(store.calls, ['delete a'], 'what can not be deleted is not asked for again')
})

void t.test('nothing is signed for a store that there is not, and nothing deleted while entries are unknown', async t => {
  const store = new FakeSvidStore()
  const { clock, identities, lines, signed, set } = await nodeOf(t, store)
  set({ id: 'a', selectors: ['vaultlike:a'] }, { id: 'x', selectors: ['elsewhere:x'] })
  await until(clock, 'its own is stored', () => store.held.size === 1)
  await clock.advance(30_000)
  t.strictSame(signed, ['a'])
  t.equal(lines.filter(({ entry, store }) => entry === 'x' && store === 'elsewhere').length, 1, 'which is said once')
  identities.forget()
  await clock.advance(30_000)
  t.equal(store.held.size, 1)
})

void t.test('a revoked SVID is replaced, or deleted where there is no next one', async t => {
  const store = new FakeSvidStore()
  const { clock, identities, refused, set } = await nodeOf(t, store)
  set({ id: 'a', spiffeId: '/a', selectors: ['vaultlike:a'] })
  await until(clock, 'it is stored', () => store.held.size === 1)
  const first = store.held.get('a')?.svid
  const revoke = () => identities.dropRevoked(new Set([hash('sha256', store.held.get('a')?.svid.chain[0] ?? '')]))
  revoke()
  await until(clock, 'the next one is stored', () => store.held.has('a') && store.held.get('a')?.svid !== first)
  refused.add('a')
  revoke()
  await until(clock, 'it is gone', () => store.held.size === 0)
})

void t.test('entries that swap their places overwrite each other, and nothing is deleted', async t => {
  const store = new FakeSvidStore()
  const { clock, set } = await nodeOf(t, store)
  const entry = (id: string, place: string, revisionNumber = 0) => ({
    id, spiffeId: `/${id}`, selectors: [`vaultlike:${place}`], revisionNumber
  })
  const ids = () => ['one', 'two'].map(place => store.held.get(place)?.svid.id)
  set(entry('a', 'one'), entry('b', 'two'))
  await until(clock, 'both are stored', () => store.held.size === 2)
  set(entry('a', 'two', 1), entry('b', 'one', 1))
  await until(clock, 'they have swapped', () => ids()[0] === idOf('/b') && ids()[1] === idOf('/a'))
  t.notOk(store.calls.some(call => call.startsWith('delete')))
})

void t.test('stores of clouds are refused by name', t => {
  const read = (name: string) => z.strictObject(pluginSchemas(agentCatalog)).parse({ SVIDStore: { [name]: {} } })
  for (const name of ['aws_secretsmanager', 'gcp_secretmanager']) t.throws(() => read(name), { message: /is not offered yet/ }, name)
  t.throws(() => read('other'), { message: /other/ })
  t.end()
})

void t.test('a whole agent with a store', async t => {
  const store = new FakeSvidStore()
  await using server = await startTestServer()
  await using agent = await startTestAgent(server, { svidStores: [store] })
  const trustDomain = 'example.org'
  const { results } = await server.admin.client(entryService).batchCreateEntry({ entries: [{
    spiffeId: { trustDomain, path: '/stored' }, parentId: { trustDomain, path: agent.path }, storeSvid: true,
    selectors: [{ type: 'vaultlike', value: 'db' }]
  }] })
  t.equal(results[0]?.status?.code, 0)
  await eventually('it is stored', () => store.held.get('db')?.svid.id === idOf('/stored'), 60_000)
  const reading = agent.workload.client(workloadService).fetchX509SVID({}, securityHeader)
  await t.rejects((async () => { for await (const answer of reading) t.notOk(answer.svids.length) })(), 'no workload is given it')
  await server.admin.client(entryService).batchDeleteEntry({ ids: [results[0]?.entry?.id ?? ''] })
  await eventually('it is deleted', () => store.held.size === 0, 60_000)
})

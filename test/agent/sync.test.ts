import t from 'tap'
import { NodeIdentities } from '../../src/agent/node-identities.ts'
import { SvidCache } from '../../src/agent/svid-cache.ts'
import { runSync, syncOnce, type SyncClient } from '../../src/agent/sync.ts'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import type { Entry } from '../../src/spiffe/entry.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { ManualClock } from '../fakes/clock.ts'
import { makeEntry } from '../fakes/entries.ts'

const never = new AbortController().signal
const domain = parseTrustDomain('example.org')
const partner = parseTrustDomain('partner.org')

async function setUp () {
  const clock = new ManualClock()
  const { bundle } = await createTestAuthority(domain)
  const foreign = (await createTestAuthority(partner)).bundle
  const server = {
    entries: [] as Entry[], bundle: { ...bundle, sequenceNumber: 1n } as Bundle, foreign: foreign as Bundle | undefined,
    down: false, calls: 0
  }
  const client: SyncClient = {
    async fetchEntries () {
      server.calls++
      if (server.down) throw new RpcError('UNAVAILABLE', 'down', { method: '/x' })
      return server.entries
    },
    fetchBundle: async () => server.bundle,
    fetchFederatedBundle: async () => server.foreign
  }
  const svids = new SvidCache({ keyType: 'ec-p256', maxSize: 0, random: () => 0 }, clock, silentLogger)
  const identities = new NodeIdentities(server.bundle, svids, clock)
  const kept: Bundle[] = []
  const deps = {
    client, identities, trustDomain: domain, intervalMs: 5000,
    onBundle: async (bundle: Bundle) => { kept.push(bundle) }, onSynced: () => {},
    clock, log: silentLogger, random: () => 0.5
  }
  return { clock, server, identities, kept, deps, foreign }
}

t.test('a round takes entries and bundles over, and keeps the objects of what did not change', async t => {
  const { server, identities, kept, deps, foreign } = await setUp()
  server.entries = [makeEntry({ id: 'a', federatesWith: [partner] })]
  await syncOnce(deps, never)
  t.ok(identities.synced)
  t.same(identities.federatedBundles.get(partner)?.x509Authorities, foreign.x509Authorities)
  const before = [identities.entries, identities.bundle, identities.federatedBundles]
  server.bundle = { ...server.bundle, x509Authorities: [...server.bundle.x509Authorities] }
  server.foreign = { ...foreign }
  await syncOnce(deps, never)
  t.same([identities.entries, identities.bundle, identities.federatedBundles].map(
    (one, index) => one === before[index]
  ), [true, true, true])
  server.bundle = { ...server.bundle, sequenceNumber: 2n, x509Authorities: [...server.bundle.x509Authorities, ...foreign.x509Authorities] }
  await syncOnce(deps, never)
  t.equal(kept.at(-1)?.sequenceNumber, 2n, 'a new own bundle is kept through restarts')
  t.equal(identities.bundle.sequenceNumber, 2n)
})

t.test('a partner\'s broken bundle leaves its last good one and everybody else alone', async t => {
  const { server, identities, deps, foreign } = await setUp()
  server.entries = [makeEntry({ id: 'a', federatesWith: [partner] })]
  await syncOnce(deps, never)
  server.foreign = { ...foreign, sequenceNumber: 9n, x509Authorities: [{ certificate: Buffer.from('no certificate'), tainted: false }] }
  server.entries = [...server.entries, makeEntry({ id: 'b' })]
  await syncOnce(deps, never)
  t.equal(identities.entries.size, 2)
  t.same(identities.federatedBundles.get(partner)?.x509Authorities, foreign.x509Authorities)
  deps.client.fetchFederatedBundle = async () => { throw new SpiffeError('bundle_malformed', 'missing key ID') }
  server.entries = [...server.entries, makeEntry({ id: 'c' })]
  await syncOnce(deps, never)
  t.equal(identities.entries.size, 3, 'nor does one that cannot even be decoded')
  t.ok(identities.federatedBundles.has(partner))
  deps.client.fetchFederatedBundle = async () => ({ ...server.bundle })
  await syncOnce(deps, never)
  t.same(identities.federatedBundles.get(partner)?.x509Authorities, foreign.x509Authorities, 'nor the bundle of another domain')
  deps.client.fetchFederatedBundle = async () => undefined
  await syncOnce(deps, never)
  t.notOk(identities.federatedBundles.has(partner), 'a bundle the server took away goes')
})

t.test('the own bundle is kept when its content differs, and only then', async t => {
  const { server, kept, deps, foreign } = await setUp()
  server.entries = [makeEntry({ id: 'a', federatesWith: [partner] })]
  await syncOnce(deps, never)
  t.same(kept, [], 'a new partner changes nothing in it')
  server.bundle = { ...server.bundle, x509Authorities: foreign.x509Authorities }
  await syncOnce(deps, never)
  t.same(kept, [server.bundle], 'a server that was restored may use a sequence number again')
})

t.test('an own bundle that trusts nobody, or belongs to another domain, is not taken over', async t => {
  const { server, identities, deps, foreign } = await setUp()
  const good = server.bundle
  for (const bad of [{ ...good, sequenceNumber: 2n, x509Authorities: [] }, foreign]) {
    server.bundle = bad
    await t.rejects(syncOnce(deps, never), { code: 'bundle_malformed' })
    t.equal(identities.bundle.sequenceNumber, 1n)
  }
})

t.test('polling slows down while the server is away, and recovers', async t => {
  const { clock, server, deps } = await setUp()
  server.down = true
  const stop = new AbortController()
  const ended = t.rejects(runSync(deps, stop.signal), { message: 'over' }, 'ends with its signal')
  await clock.advance(60_000)
  const failed = server.calls
  t.ok(failed >= 4 && failed <= 6, `${failed} attempts in a minute instead of 13`)
  await clock.advance(600_000)
  t.ok(server.calls - failed >= 9, 'but never slower than once a minute')
  server.down = false
  await clock.advance(60_000)
  const back = server.calls
  await clock.advance(50_000)
  t.equal(server.calls - back, 10, 'every five seconds again')
  stop.abort(new Error('over'))
  await ended
})

t.test('a node without any SVID looks each five seconds, whatever the interval (spire-surface §2.3)', async t => {
  const { clock, server, identities, deps } = await setUp()
  const held = { svids: 0 }
  Object.defineProperty(identities, 'svids', { get: () => held.svids })
  const stop = new AbortController()
  const ended = t.rejects(runSync({ ...deps, intervalMs: 60_000 }, stop.signal), { message: 'over' })
  await clock.advance(0)
  await clock.advance(20_000)
  t.equal(server.calls, 5)
  held.svids = 1
  await clock.advance(5_000)
  const before = server.calls
  await clock.advance(59_000)
  t.equal(server.calls, before, 'then as it is configured')
  await clock.advance(1_000)
  t.equal(server.calls, before + 1)
  stop.abort(new Error('over'))
  await ended
})

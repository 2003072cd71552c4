import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { fetchAllEntries, syncEntries } from '../../src/agent/sync-entries.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Entry } from '../../src/spiffe/entry.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { debugService } from '../../src/wire/generated/agent-debug.ts'
import { delegatedIdentityService } from '../../src/wire/generated/delegated-identity.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { attest, openServerChannel } from '../fakes/agent-client.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { eventually } from '../fakes/eventually.ts'
import { withoutSpireServer as skip } from '../fakes/spire.ts'
import { idMessage } from './administrator.ts'
import { patienceMs, serves, startAtSpire, stateOf } from './at-spire.ts'

const id = (path: string) => `spiffe://example.org${path}`
const byId = (entries: readonly Entry[]) => new Map(entries.map(entry => [entry.id, entry]))

void t.test('more entries than fit a page come by pages, in both forms (spire-surface §2.3)', { skip, timeout: 300_000 }, async t => {
  await using server = await startAtSpire()
  const { entries } = server.operator
  const identity = await attest(server)
  const agentId = parseSpiffeId(parseCertificate(identity.chain[0] as Uint8Array).uriSans[0] ?? '')
  await using channel = openServerChannel(server, identity)
  const client = channel.client(entryService)
  const count = 503
  const wanted = Array.from({ length: count }, (_, n) => ({
    spiffeId: idMessage(id(`/w/${n}`)), parentId: idMessage(agentId), selectors: [{ type: 'unix', value: `uid:${n}` }], hint: `w${n}`
  }))
  const { results } = await entries.batchCreateEntry({ entries: wanted })
  t.equal(results.filter(({ status }) => status?.code === 0).length, count)

  const sync = async (known: ReadonlyMap<string, Entry>, isThere: (found: readonly Entry[]) => boolean) => {
    let found: readonly Entry[] = []
    await eventually('the server has looked', async () => {
      found = await syncEntries(client, known, agentId, silentLogger, {})
      return isThere(found)
    }, patienceMs)
    return byId(found)
  }
  const first = await sync(new Map(), found => found.length === count)
  t.equal(new Set([...first.values()].map(({ spiffeId }) => spiffeId)).size, count, 'each of them, once')
  const whole = await fetchAllEntries(client, new Map(), agentId, silentLogger, {})
  t.strictSame(byId(whole.toSorted(order)), byId([...first.values()].toSorted(order)), 'the older form says the same')

  const [changed, removed] = [results.slice(0, 3), results.slice(-2)].map(some => some.map(({ entry }) => entry?.id ?? ''))
  await entries.batchUpdateEntry({ entries: changed?.map(id => ({ id, hint: 'changed' })) ?? [], inputMask: { hint: true } })
  await entries.batchDeleteEntry({ ids: removed ?? [] })
  const isChanged = (found: readonly Entry[]) => found.filter(({ hint }) => hint === 'changed').length === 3
  const second = await sync(first, found => found.length === count - 2 && isChanged(found))
  t.strictSame([...second].filter(([id, entry]) => first.get(id) !== entry).map(([id]) => id).toSorted(), changed?.toSorted(),
    'what did not change was not sent, and stays the object it was')
  t.notOk(removed?.some(id => second.has(id)))
  const again = await fetchAllEntries(client, second, agentId, silentLogger, {})
  t.equal(again.length, second.size)
  t.ok(again.every(entry => second.get(entry.id) === entry), 'nor in the older form')
})

void t.test('an agent with little room for X509-SVIDs (spire-surface §2.3)', { skip, timeout: 300_000 }, async t => {
  await using server = await startAtSpire({ config: { audit_log_enabled: true } })
  const folder = await mkdtemp(join(tmpdir(), 'assay-agent-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const adminSocketPath = join(folder, 'admin.sock')
  const authorizedDelegates = [parseSpiffeId(id('/delegate'))]
  await using agent = await startTestAgent(server, {
    config: { adminSocketPath, authorizedDelegates, x509SvidCacheMaxSize: 3, syncForm: 'whole' }
  })
  await server.operator.register(id('/delegate'), id(agent.path))
  const names = ['a', 'b', 'c', 'd', 'e']
  const selectorOf = (name: string) => ({ type: 'test', value: name })
  for (const name of names) await server.operator.register(id(`/${name}`), id(agent.path), { selectors: [selectorOf(name)] })
  await serves(agent, id('/delegate'))
  const partner = await createTestAuthority('partner.test')
  await server.operator.setBundle(encodeBundle(partner.bundle))
  await server.operator.register(id('/federated'), id(agent.path), { federatesWith: ['partner.test'] })
  const federated = async () => Object.keys((await stateOf(agent))?.federatedBundles ?? {}).join()
  await eventually('a partner\'s bundle comes with the entry that names it', async () => {
    return await federated() === 'spiffe://partner.test'
  }, patienceMs)
  await server.operator.bundles.batchDeleteFederatedBundle({ trustDomains: ['partner.test'], mode: 2 })
  await eventually('and goes', async () => await federated() === '', patienceMs)

  const asked = new Set(server.log().match(/(?<=method=)\w+AuthorizedEntries/g))
  t.strictSame([...asked], ['GetAuthorizedEntries'], 'use_sync_authorized_entries = false')

  await using admin = openUnixChannel(adminSocketPath)
  const cached = async () => (await admin.client(debugService).getInfo({})).cachedX509SvidsCount
  await eventually('three are ready', async () => await cached() === 3, patienceMs)
  const over = new AbortController()
  const serials = new Map<string, Set<string>>()
  const streams = names.map(async name => {
    const call = admin.client(delegatedIdentityService).subscribeToX509SVIDs({ selectors: [selectorOf(name)] }, { signal: over.signal })
    try {
      for await (const { x509Svids } of call) {
        const seen = serials.get(name) ?? new Set()
        serials.set(name, seen)
        for (const { x509Svid } of x509Svids) seen.add(parseCertificate(x509Svid?.certChain[0] as Uint8Array).serialNumber)
      }
    } catch (error) {
      if (!over.signal.aborted) throw error
    }
  })
  await eventually('each has what it asks for', () => names.every(name => (serials.get(name)?.size ?? 0) > 0), patienceMs)
  await eventually('whoever is there, the delegate with its two too, is served', async () => await cached() === 7, patienceMs)
  over.abort()
  await Promise.all(streams)
  await eventually('three are left', async () => await cached() === 3, patienceMs)
  t.ok([...serials.values()].every(({ size }) => size === 1), 'nothing was signed anew while somebody was there')
})

function order (a: Entry, b: Entry): number { return a.id < b.id ? -1 : 1 }

import { createPublicKey } from 'node:crypto'
import t from 'tap'
import { AgentSvid, agentState, newAgentKey } from '../../src/agent/agent-svid.ts'
import { followServer, type FollowDeps } from '../../src/agent/follow-server.ts'
import type { NodeMesh } from '../../src/agent/node-services.ts'
import { NodePolicies } from '../../src/agent/node-policies.ts'
import { NodeServices } from '../../src/agent/node-services.ts'
import { NodeIdentities } from '../../src/agent/node-identities.ts'
import { Revocations } from '../../src/agent/revocations.ts'
import { SvidCache, type SvidSigner } from '../../src/agent/svid-cache.ts'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { Watchable } from '../../src/runtime/watchable.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import type { Entry } from '../../src/spiffe/entry.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import type { LocalEndpoint } from '../../src/spiffe/service-endpoint.ts'
import { parseSelector } from '../../src/spiffe/selector.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { encodeEntry } from '../../src/wire/entry-codec.ts'
import { encodeEndpoint, encodeService } from '../../src/wire/service-codec.ts'
import { SyncResponse, type SyncRequestInit, type SyncResponseInit } from '../../src/wire/generated/agent-sync.ts'
import { parseCertificateRequest } from '../../src/x509/certificate-request.ts'
import { prepareLeafIssuer } from '../../src/x509/leaf-issuer.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock, settle, until } from '../fakes/clock.ts'
import { idOf, makeEntry } from '../fakes/entries.ts'
import { eventually } from '../fakes/eventually.ts'
import { makeEndpoint, makeLocalEndpoint, makeService } from '../fakes/services.ts'

const domain = parseTrustDomain('example.org')
const partner = parseTrustDomain('partner.org')
const at = (number: number) => ({ epoch: 'one', number })

interface TestStream {
  readonly requests: readonly SyncRequestInit[]
  readonly send: (message: SyncResponseInit) => Promise<void>
  readonly fail: (error: Error) => void
}

/** An agent's side of the stream, without sockets: the test is the server. */
async function setUp (options: { unimplemented?: boolean, mesh?: NodeMesh, ownSvid?: FollowDeps['ownSvid'] } = {}) {
  const clock = new ManualClock()
  const authority = await createTestAuthority(domain, { notBefore: new Date('2025-12-01'), notAfter: new Date('2027-01-01') })
  const foreign = (await createTestAuthority(partner)).bundle
  const issuer = prepareLeafIssuer(authority.certificate, authority.signer)
  const { log, lines } = capturedLog()
  const signing = { held: undefined as Promise<void> | undefined, refuse: new Set<string>() }
  const signer: SvidSigner = {
    async signX509Svids (orders) {
      await signing.held
      return await Promise.all(orders.map(async ({ entryId, csr }) => signing.refuse.has(entryId)
        ? new SpiffeError('entry_not_authorized', 'no')
        : [await issuer.issue({
          id: idOf(`/${entryId}`), dnsNames: [], publicKey: parseCertificateRequest(csr).publicKey,
          notBefore: clock.now(), notAfter: new Date(clock.now().getTime() + 3_600_000)
        })]))
    }
  }
  const svids = new SvidCache({ keyType: 'ec-p256', maxSize: 100, random: () => 0 }, clock, silentLogger)
  const identities = new NodeIdentities(authority.bundle, svids, clock)
  const revocations = new Revocations()
  const policies = new NodePolicies({ trustDomain: domain, foreign: [] }, log)
  const streams: TestStream[] = []
  const state = { polls: 0, moved: 0, kept: [] as Bundle[] }
  const deps: FollowDeps = {
    client: {
      async follow (requests, onMessage, signal) {
        if (options.unimplemented) throw new RpcError('UNIMPLEMENTED', 'unknown service', { method: '/x' })
        const { promise, reject } = Promise.withResolvers<never>()
        const seen: SyncRequestInit[] = []
        void (async () => { for await (const request of requests) seen.push(request) })()
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
        streams.push({
          requests: seen,
          fail: reject,
          send: async message => { await onMessage(decodeMessage(SyncResponse, encodeMessage(SyncResponse, message))) }
        })
        await promise
      },
      moveOn: async () => { state.moved++ },
      async fetchEntries () { state.polls++; return [] },
      fetchBundle: async () => authority.bundle,
      fetchFederatedBundle: async () => undefined
    },
    agentId: idOf('/spire/agent/join_token/node'),
    identities,
    mesh: options.mesh,
    ownSvid: options.ownSvid,
    revocations,
    policies,
    trustDomain: domain,
    intervalMs: 5000,
    onBundle: async bundle => { state.kept.push(bundle) },
    onSynced: () => {},
    postStatus: async () => {},
    clock,
    log,
    random: () => 0.5
  }
  const stop = new AbortController()
  const running = [followServer(deps, stop.signal), identities.run(signer, stop.signal)].map(task => task.catch(() => {}))
  const stream = async (index: number) => {
    await until(() => streams.length > index)
    return streams[index] as TestStream
  }
  return { clock, identities, policies, svids, signing, state, lines, stream, foreign, own: authority.bundle,
    async [Symbol.asyncDispose] () {
      stop.abort(new Error('over'))
      await Promise.all(running)
    } }
}

const entry = (id: string, rest: Parameters<typeof makeEntry>[0] = {}): Entry =>
  makeEntry({ id, spiffeId: `/${id}`, selectors: ['unix:uid:1'], ...rest })
const ids = (entries: Iterable<Entry>) => [...entries].map(({ id }) => id).toSorted()

t.test('a snapshot in several messages is taken over as a whole, and acknowledged when it is served', async t => {
  await using agent = await setUp()
  const stream = await agent.stream(0)
  t.match(stream.requests[0], { resume: undefined, agentVersion: /./ }, 'it knows nothing')
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  agent.signing.held = held
  await stream.send({ cursor: at(7), snapshot: true, more: true, entries: [encodeEntry(entry('a'))], bundles: [encodeBundle(agent.own)] })
  t.notOk(agent.identities.synced, 'half a state is none')
  await stream.send({ cursor: at(7), entries: [encodeEntry(entry('b'))] })
  t.same(ids(agent.identities.entries.values()), ['a', 'b'])
  await settle()
  t.equal(stream.requests.length, 1, 'not acknowledged before the SVIDs are there')
  release()
  await until(() => stream.requests.length > 1)
  t.match(stream.requests[1], { acknowledged: at(7), unservedEntryIds: [] })
  t.ok(agent.identities.entriesFor([parseSelector('unix:uid:1')]).every(entry => agent.svids.svidOf(entry)))
})

t.test('changes are applied one by one; what cannot be signed is said', async t => {
  await using agent = await setUp()
  const stream = await agent.stream(0)
  await stream.send({ cursor: at(1), snapshot: true, entries: [encodeEntry(entry('a')), encodeEntry(entry('b'))] })
  const before = agent.identities.entries.get('a')
  agent.signing.refuse.add('c')
  await stream.send({
    cursor: at(2),
    removedEntryIds: ['b'],
    entries: [encodeEntry(entry('c', { federatesWith: [partner] }))],
    bundles: [encodeBundle(agent.foreign)]
  })
  t.same(ids(agent.identities.entries.values()), ['a', 'c'])
  t.equal(agent.identities.entries.get('a'), before, 'what did not change stays what it was')
  t.ok(agent.identities.federatedBundles.has(partner))
  await until(() => stream.requests.some(({ acknowledged }) => acknowledged?.number === 2))
  t.match(stream.requests.at(-1), { acknowledged: at(2), unservedEntryIds: ['c'] })
  await stream.send({ cursor: at(3), removedEntryIds: ['c'] })
  t.notOk(agent.identities.federatedBundles.has(partner), 'a partner nobody federates with any more goes')
  await until(() => stream.requests.at(-1)?.acknowledged?.number === 3)
  t.match(stream.requests.at(-1), { unservedEntryIds: [] })
})

t.test('a stream that breaks half-way changes nothing; the next one resumes where the agent stands', async t => {
  await using agent = await setUp()
  const first = await agent.stream(0)
  await first.send({ cursor: at(1), snapshot: true, entries: [encodeEntry(entry('a'))] })
  await first.send({ cursor: at(2), more: true, removedEntryIds: ['a'] })
  first.fail(new RpcError('UNAVAILABLE', 'gone', { method: '/x' }))
  await until(() => agent.state.moved === 1)
  t.same(ids(agent.identities.entries.values()), ['a'])
  await agent.clock.advance(200)
  const second = await agent.stream(1)
  t.match(second.requests[0], { resume: at(1) }, 'at the next server')
  await second.send({ cursor: { epoch: 'two', number: 1 }, snapshot: true, entries: [encodeEntry(entry('z'))] })
  t.same(ids(agent.identities.entries.values()), ['z'], 'a snapshot replaces everything, of another epoch too')
})

t.test('pauses grow while no server answers', async t => {
  await using agent = await setUp()
  for (let index = 0; index < 12; index++) {
    (await agent.stream(index)).fail(new RpcError('UNAVAILABLE', 'gone', { method: '/x' }))
    await until(() => agent.state.moved > index)
    await agent.clock.advance(60_000)
  }
  const waits = agent.lines.filter(line => line.msg === 'the server\'s changes cannot be followed; trying on').map(line => line.retryInMs)
  t.same(waits.slice(0, 4), [200, 400, 800, 1600])
  t.equal(waits.at(-1), 60_000)
})

t.test('what cannot be read is left out, and an older form of it is not served in its place', async t => {
  await using agent = await setUp()
  const stream = await agent.stream(0)
  await stream.send({ cursor: at(1), snapshot: true, entries: [encodeEntry(entry('a')), encodeEntry(entry('b'))] })
  await stream.send({ cursor: at(2), entries: [{ ...encodeEntry(entry('b')), selectors: [] }], bundles: [{ trustDomain: 'example.org' }] })
  t.same(ids(agent.identities.entries.values()), ['a'])
  t.equal(agent.identities.bundle, agent.own, 'nor an own bundle that trusts nobody')
  t.same(agent.state.kept, [])
  await t.rejects(stream.send({ entries: [] }), { code: 'message_malformed' })
})

t.test('a server that does not push is polled, and asked again later', async t => {
  await using agent = await setUp({ unimplemented: true })
  await agent.clock.advance(20_000)
  t.equal(agent.state.polls, 5)
  t.match(agent.lines.filter(line => line.level === 'info'), [{ msg: 'the server does not push changes: polling' }])
  await agent.clock.advance(300_000)
  t.equal(agent.lines.filter(line => line.level === 'info').length, 2)
})

const meshOf = (...endpoints: LocalEndpoint[]): NodeMesh => ({ services: new NodeServices(), localEndpoints: new Watchable(endpoints) })
const addressesOf = (mesh: NodeMesh) => [...mesh.services.state.endpoints.values()].map(({ address }) => address).toSorted()

t.test('services and endpoints are taken over with the step they come in', async t => {
  const mesh = meshOf()
  const { services } = mesh
  await using agent = await setUp({ mesh })
  const stream = await agent.stream(0)
  t.equal(stream.requests[0]?.mesh, true)
  await stream.send({
    cursor: at(1), snapshot: true, more: true, services: [encodeService(makeService())], endpoints: [encodeEndpoint(makeEndpoint('a'))]
  })
  t.notOk(services.synced, 'half a state is none')
  await stream.send({ cursor: at(1), services: [encodeService(makeService({ name: 'api' }))] })
  t.same([...services.state.services.keys()], ['web', 'api'])
  const before = services.state
  await stream.send({ cursor: at(2), entries: [encodeEntry(entry('a'))], services: [encodeService(makeService())] })
  t.equal(services.state, before, 'what says nothing new shows nothing new')
  await stream.send({
    cursor: at(3), services: [encodeService(makeService({ id: 'web', name: 'shop', revisionNumber: 1 }))], removedServiceIds: ['api'],
    endpoints: [encodeEndpoint(makeEndpoint('a', '/web', '10.0.0.2'))]
  })
  t.same([...services.state.services.keys()], ['shop'], 'under its new name alone')
  t.same(addressesOf(mesh), ['10.0.0.1', '10.0.0.2'])
  t.equal(services.state.endpoints.get(makeEndpoint('a').id), before.endpoints.get(makeEndpoint('a').id), 'what did not change stays')
  t.ok(services.state.revision > before.revision)
  await stream.send({ cursor: at(4), removedEndpointIds: [makeEndpoint('a').id] })
  t.same(addressesOf(mesh), ['10.0.0.2'])
  await until(() => stream.requests.some(({ acknowledged }) => acknowledged?.number === 4))
  await stream.send({ cursor: at(5), snapshot: true })
  t.same(services.state.services.size + services.state.endpoints.size, 0, 'a snapshot that does not name them')
})

t.test('nothing is acknowledged before the node\'s proxy has answered; an SVID that it refused is not served', async t => {
  const mesh = meshOf()
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>()
  mesh.proxy = { settled: () => answered, refusedIds: new Set([idOf('/b')]) }
  await using agent = await setUp({ mesh })
  const stream = await agent.stream(0)
  const entries = ['a', 'b'].map(id => encodeEntry(entry(id)))
  await stream.send({ cursor: at(7), snapshot: true, entries, bundles: [encodeBundle(agent.own)] })
  await until(() => ['a', 'b'].every(id => agent.svids.svidOf([...agent.identities.entries.values()].find(one => one.id === id)!)))
  const acknowledged = () => stream.requests.filter(request => request.acknowledged !== undefined)
  t.same(acknowledged(), [], 'the SVIDs are there, the proxy has not answered')
  answer()
  await until(() => acknowledged().length > 0)
  t.match(acknowledged(), [{ acknowledged: at(7), unservedEntryIds: ['b'] }])
})

t.test('a taint is not acknowledged before the agent\'s own SVID is replaced too', async t => {
  const clock = new ManualClock()
  const validity = { notBefore: new Date('2025-12-01'), notAfter: new Date('2027-01-01') }
  const [old, next] = [await createTestAuthority(domain, validity), await createTestAuthority(domain, validity)]
  const issuers = [old, next].map(({ certificate, signer }) => prepareLeafIssuer(certificate, signer))
  const signed = (issuer: number, publicKey: Uint8Array) => issuers[issuer]!.issue({
    id: idOf('/spire/agent/join_token/node'), dnsNames: [], publicKey, notBefore: clock.now(),
    notAfter: new Date(clock.now().getTime() + 3_600_000)
  })
  const key = newAgentKey()
  const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' })
  const rest = { bundle: old.bundle, canReattest: false, cacheGeneration: 0 }
  const store = { folder: undefined, async read () { return undefined }, async write () {}, async remove () {} }
  const own = new AgentSvid(agentState([await signed(0, publicKey)], key, rest), { store, clock, log: silentLogger, random: () => 0 })
  await using agent = await setUp({ ownSvid: own })
  const stream = await agent.stream(0)
  await stream.send({ cursor: at(1), snapshot: true, entries: [encodeEntry(entry('a'))], bundles: [encodeBundle(agent.own)] })
  await until(() => stream.requests.some(({ acknowledged }) => acknowledged?.number === 1))
  const bundle: Bundle = {
    ...old.bundle,
    x509Authorities: [...next.bundle.x509Authorities, ...old.bundle.x509Authorities.map(authority => ({ ...authority, tainted: true }))]
  }
  await own.setBundle(bundle)
  await stream.send({ cursor: at(2), bundles: [encodeBundle(agent.own)] })
  await settle()
  t.notOk(stream.requests.some(({ acknowledged }) => acknowledged?.number === 2), 'the workloads have all they need, the agent has not')

  const stop = new AbortController()
  const stopped = new Error('over')
  let renewals = 0
  // The first answer is of a replica that did not turn to the new root yet.
  const renew = async (csr: Uint8Array) => ({ chain: [await signed(renewals++, parseCertificateRequest(csr).publicKey)] })
  const running = own.run(renew, { reconnect: async () => {} }, stop.signal)
  await until(() => renewals === 1)
  await settle()
  t.notOk(stream.requests.some(({ acknowledged }) => acknowledged?.number === 2), 'renewed below the same root is not enough')
  // Signing is real, and takes as long as it takes: when the next look is due is not known.
  const acknowledged = () => stream.requests.some(({ acknowledged }) => acknowledged?.number === 2)
  await eventually('it is acknowledged', async () => {
    await clock.advance(200)
    return acknowledged()
  })
  t.ok(acknowledged())
  t.equal(renewals, 2)
  stop.abort(stopped)
  await t.rejects(running, stopped)
})

t.test('a service or an endpoint that cannot be read is none', async t => {
  const mesh = meshOf()
  await using agent = await setUp({ mesh })
  const stream = await agent.stream(0)
  const [web, api] = [encodeService(makeService()), encodeService(makeService({ name: 'api' }))]
  await stream.send({ cursor: at(1), snapshot: true, services: [web, api], endpoints: [encodeEndpoint(makeEndpoint('a'))] })
  const forged = { ...encodeEndpoint(makeEndpoint('a')), agentId: 'spiffe://example.org/spire/agent/join_token/b' }
  await stream.send({ cursor: at(2), services: [{ ...web, ports: [] }], endpoints: [forged] })
  t.same([...mesh.services.state.services.keys()], ['api'])
  t.equal(mesh.services.state.endpoints.size, 0)
})

t.test('the endpoints of this node are said on each stream and after each change', async t => {
  const mesh = meshOf(makeLocalEndpoint())
  await using agent = await setUp({ mesh })
  const first = await agent.stream(0)
  await until(() => first.requests.length > 1)
  t.match(first.requests[1], { endpointsChanged: true, endpoints: [{ spiffeId: idOf('/web'), address: '10.0.0.1', id: undefined }] })
  mesh.localEndpoints.set([])
  await until(() => first.requests.length > 2)
  t.match(first.requests[2], { endpointsChanged: true, endpoints: [] }, 'none is said too')
  await first.send({ cursor: at(1), snapshot: true })
  first.fail(new RpcError('UNAVAILABLE', 'gone', { method: '/x' }))
  await until(() => agent.state.moved === 1)
  mesh.localEndpoints.set([makeLocalEndpoint('/api')])
  await agent.clock.advance(200)
  const second = await agent.stream(1)
  await until(() => second.requests.some(({ endpointsChanged }) => endpointsChanged === true))
  t.match(second.requests.at(-1), { endpoints: [{ spiffeId: idOf('/api') }] })
})

t.test('an agent that knows entries and no services asks for everything', async t => {
  const mesh = meshOf()
  await using agent = await setUp({ mesh })
  const first = await agent.stream(0)
  await first.send({ cursor: at(1), snapshot: true, entries: [encodeEntry(entry('a'))] })
  mesh.services.forget()
  first.fail(new RpcError('UNAVAILABLE', 'gone', { method: '/x' }))
  await until(() => agent.state.moved === 1)
  await agent.clock.advance(200)
  t.notOk((await agent.stream(1)).requests[0]?.resume)
})

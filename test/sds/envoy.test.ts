import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { bind } from '../../src/rpc/bound-service.ts'
import { openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { X509Svid } from '../../src/spiffe/svid.ts'
import type { SdsDelivery, SdsKind, SdsMetrics } from '../../src/sds/sds-events.ts'
import { sdsHandlers } from '../../src/sds/sds-handlers.ts'
import { secretDiscoveryService } from '../../src/wire/generated/envoy-sds.ts'
import { Envoy, noEnvoy, get, until } from '../fakes/envoy.ts'
import { FakeIdentities, identityOf, TestTrustDomain } from '../fakes/identities.ts'
import { sameSerial, serialOf } from '../fakes/serial.ts'
import { clientConfig, serverConfig } from './mtls-config.ts'

const skip = noEnvoy()
const own = await TestTrustDomain.create('own.test')
const partner = await TestTrustDomain.create('partner.test')

class Counts implements SdsMetrics {
  readonly #counts = new Map<string, number>()
  streams (kind: SdsKind, change: 1 | -1): void { this.#add(`${kind} streams`, change) }
  pushed (kind: SdsKind): void { this.#add(`${kind} pushed`) }
  acknowledged (kind: SdsKind): void { this.#add(`${kind} acknowledged`) }
  refused (kind: SdsKind): void { this.#add(`${kind} refused`) }
  get (name: string): number { return this.#counts.get(name) ?? 0 }
  #add (name: string, change = 1): void { this.#counts.set(name, this.get(name) + change) }
}

/** An agent that knows each caller by its PID. */
class TestAgent {
  readonly identities = new FakeIdentities(own.bundle)
  readonly deliveries: SdsDelivery[] = []
  readonly path: string
  counts = new Counts()

  constructor (path: string) { this.path = path }

  selectors (envoy: Envoy) { return [{ type: 'test', value: `pid:${envoy.pid}` }] }

  async start () {
    this.counts = new Counts()
    const handlers = sdsHandlers({
      attestWorkload: async ({ caller }) => [{ type: 'test', value: caller.kind === 'unix' ? `pid:${caller.peer.pid}` : '' }],
      identities: this.identities,
      clock: systemClock,
      metrics: this.counts,
      onAcknowledged: delivery => { this.deliveries.push(delivery) }
    })
    const server = openRpcServer({ services: [bind(secretDiscoveryService, handlers)], log: silentLogger, clock: systemClock })
    await server.listenUnix({ path: this.path })
    return server
  }
}

for (const [api, kind] of [['GRPC', 'sotw'], ['DELTA_GRPC', 'delta']] as const) {
  await t.test(`real Envoys with ${api}`, { skip, timeout: 120_000 }, async t => {
    await using scope = new AsyncDisposableStack()
    const folder = await mkdtemp(join(tmpdir(), 'sds-'))
    scope.defer(() => rm(folder, { recursive: true, force: true }))
    const agent = new TestAgent(join(folder, 'agent.sock'))
    const options = { agentSocket: agent.path, api }
    const serverSvid = await own.issue('/server')
    const clientSvid = await own.issue('/client')

    const server = scope.use(await Envoy.start(serverConfig({ ...options, certificate: serverSvid.id })))
    const failed = 'cluster.agent.upstream_cx_connect_fail'
    await until('Envoy to find no agent', async () => Number((await server.stats(failed)).get(failed)) > 0)
    t.notOk(await server.isReady(), 'the agent\'s socket is down at the start: Envoy waits')
    agent.identities.set(agent.selectors(server), identityOf(own.bundle, [serverSvid]))
    let running = await agent.start()
    scope.defer(() => running[Symbol.asyncDispose]())
    await server.ready()
    const upstreamPort = await server.listenerPort('in')
    if (upstreamPort === undefined) throw new Error('Envoy is ready and does not listen')

    const client = scope.use(await Envoy.start(clientConfig({ ...options, upstreamPort, expectedPeer: serverSvid.id })))
    const asClient = (svids: readonly X509Svid[], federated = [partner.bundle]) =>
      agent.identities.set(agent.selectors(client), identityOf(own.bundle, svids, federated))
    asClient([clientSvid])
    await client.ready()
    const port = await client.listenerPort('out')
    if (port === undefined) throw new Error('Envoy is ready and does not listen')
    const seenBy = async (svid: X509Svid) => sameSerial((await get(port)).headers['x-peer-serial'], serialOf(svid))
    await until('the first SVID to be used', () => seenBy(clientSvid))

    t.match(await get(port), { status: 200, body: 'hello', headers: { 'x-peer-id': clientSvid.id, 'x-tls-version': 'TLSv1.3' } },
      'first secret: mTLS, each side checked by the SPIFFE validator')
    await until('acknowledgements', () => agent.counts.get(`${kind} acknowledged`) >= 4)
    // An Envoy uses a secret before its acknowledgement is read here, and others may have been counted.
    const named = () =>
      agent.deliveries.some(({ node, name, version }) => node === 'client-node' && name === 'default' && version !== undefined)
    await until('that of the client', named)
    t.ok(named(), 'acknowledgements name node, resource and version')

    await t.test('rotation under load', async t => {
      let failures = 0
      let requests = 0
      const stop = new AbortController()
      const load = (async () => {
        while (!stop.signal.aborted) {
          requests++
          if ((await get(port)).status !== 200) failures++
        }
      })()
      for (let round = 0; round < 3; round++) {
        const renewed = await own.issue('/client')
        agent.identities.set(agent.selectors(server), identityOf(own.bundle, [await own.issue('/server')]))
        asClient([renewed])
        await until('the renewed SVID to be used', () => seenBy(renewed))
      }
      stop.abort()
      await load
      t.equal(failures, 0, `none of ${requests} requests failed`)
      t.ok(requests >= 3)
    })

    await t.test('a partner is trusted while its bundle is there', async t => {
      const guest = await partner.issue('/guest')
      asClient([guest])
      await until('the guest to be refused', async () => (await get(port)).status === 503)
      agent.identities.set(agent.selectors(server), identityOf(own.bundle, [serverSvid], [partner.bundle]))
      await until('the guest to be accepted', () => seenBy(guest))
      t.equal((await get(port)).headers['x-peer-id'], guest.id)
      agent.identities.set(agent.selectors(server), identityOf(own.bundle, [serverSvid]))
      await until('the guest to be refused again', async () => (await get(port)).status === 503)
    })

    await t.test('a bad secret is never sent, a refused one does no harm', async t => {
      const good = await own.issue('/client')
      asClient([good])
      await until('the good SVID to be used', () => seenBy(good))
      const acknowledged = agent.deliveries.length
      asClient([{ ...await own.issue('/client'), privateKey: good.privateKey }], [])
      await until('the rest of that state to arrive', () =>
        agent.deliveries.slice(acknowledged).some(({ node, name }) => node === 'client-node' && name === 'ALL'))
      t.equal(agent.counts.get(`${kind} refused`), 0, 'a key that does not match its certificate was held back')
      t.ok(await seenBy(good), 'the last good one is kept')

      const delivered = agent.deliveries.length
      const pushed = agent.counts.get(`${kind} pushed`)
      asClient([await own.issue('/client', { weak: true })], [])
      await until('Envoy to refuse a weak key', () => agent.counts.get(`${kind} refused`) === 1)
      t.ok(await seenBy(good), 'Envoy keeps what it had')
      if (kind === 'delta') {
        await until('the last good one to be sent again', () => agent.counts.get('delta pushed') >= pushed + 2)
        await until('and be applied', () =>
          agent.deliveries.slice(delivered).some(({ name, version }) => name === 'default' && version !== undefined))
      }
      const renewed = await own.issue('/client')
      asClient([renewed])
      await until('the next good one to be used', () => seenBy(renewed))
      t.ok(client.running && server.running)
    })

    await t.test('an identity withdrawn and given back', async t => {
      const before = await own.issue('/client')
      asClient([before])
      await until('it to be used', () => seenBy(before))
      const acknowledged = agent.deliveries.length
      asClient([])
      if (kind === 'delta') {
        await until('the removal to be acknowledged', () =>
          agent.deliveries.slice(acknowledged).some(({ name, version }) => name === 'default' && version === undefined))
      }
      t.ok(await seenBy(before), 'classic SDS keeps its last good secret')
      const after = await own.issue('/client')
      asClient([after])
      await until('the new one to be used', () => seenBy(after))
    })

    await t.test('the agent restarts', async t => {
      const before = await own.issue('/client')
      asClient([before])
      await until('it to be used', () => seenBy(before))
      await running[Symbol.asyncDispose]()
      t.equal(agent.identities.watchers, 0, 'no watch is left behind')
      t.ok(await seenBy(before), 'Envoy goes on without its agent')
      running = await agent.start()
      await until('Envoys to come back', () => agent.counts.get(`${kind} streams`) === 4)
      const after = await own.issue('/client')
      asClient([after])
      await until('a new SVID to be used', () => seenBy(after))
      if (kind === 'delta') t.equal(agent.counts.get('delta pushed'), 1, 'of all that Envoys held, only what changed was sent again')
    })
  })
}

import t, { type Test } from 'tap'
import { join } from 'node:path'
import { silentLogger } from '../../src/runtime/logger.ts'
import { EndpointReports } from '../../src/server/endpoint-reports.ts'
import { GoneReporters } from '../../src/server/gone-reporters.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import type { ServiceEndpoint } from '../../src/spiffe/service-endpoint.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { openDatastore } from '../../src/storage/open-datastore.ts'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { Endpoint, type EndpointInit } from '../../src/wire/generated/assay-types.ts'
import { encodeEndpoint } from '../../src/wire/service-codec.ts'
import { makeAgent } from '../fakes/agents.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { idOf, makeDraft } from '../fakes/entries.ts'
import { openPushReplica } from '../fakes/push.ts'
import { makeEndpoint, makeLocalEndpoint, makeServiceDraft } from '../fakes/services.ts'

const domain = parseTrustDomain('example.org')
const [one, two] = [idOf('/spire/agent/join_token/one'), idOf('/spire/agent/join_token/two')]
const sent = (...endpoints: readonly EndpointInit[]) =>
  endpoints.map(endpoint => decodeMessage(Endpoint, encodeMessage(Endpoint, endpoint)))

/** A replica on a real database; agents `one` and `two` may both serve /web, and `one` alone /api. */
async function setUp (t: Test) {
  const clock = new ManualClock('2026-05-01T00:00:00Z')
  const store = await openDatastore(join(t.testdir(), 'db'), { clock, log: silentLogger })
  t.teardown(() => store[Symbol.asyncDispose]())
  for (const id of [one, two]) await store.agents.attest(makeAgent(id, { expiresAt: new Date('2026-05-02') }))
  await store.entries.createMany([
    makeDraft({ id: 'web-1', spiffeId: '/web', parentId: one }), makeDraft({ id: 'web-2', spiffeId: '/web', parentId: two }),
    makeDraft({ id: 'api', spiffeId: '/api', parentId: one })
  ])
  await store.services.createMany([makeServiceDraft({ spiffeIds: ['spiffe://example.org/web', 'spiffe://example.org/api'] })])
  await store.bundles.set({ trustDomain: domain, x509Authorities: [], jwtAuthorities: [] })
  const { replica } = await openPushReplica(store, domain, clock)
  const { log, lines } = capturedLog()
  const reports = new EndpointReports({ replica, endpoints: store.endpoints, clock, log })
  const stored = async () => {
    const found: ServiceEndpoint[] = []
    for await (const endpoint of store.endpoints.all()) found.push(endpoint)
    return found.map(({ agentId, spiffeId, address }) => `${agentId.slice(-3)} ${spiffeId.slice(-4)} ${address}`).toSorted()
  }
  return { clock, store, replica, reports, lines, log, stored, number: async () => (await store.log.head()).number }
}

t.test('an agent speaks of what it may serve and of nothing else', async t => {
  const { store, replica, reports, lines, stored } = await setUp(t)
  using hostile = reports.open(two)
  hostile.say(sent(makeLocalEndpoint(), makeLocalEndpoint('/api'), makeLocalEndpoint('/spire/server')))
  await reports.flush()
  t.strictSame(await stored(), ['two /web 10.0.0.1'], 'the rest is left out')
  t.match(lines, [{ level: 'warn', agent: two, refused: 2, reason: 'it may not serve spiffe://example.org/api' }])
  hostile.say(sent(makeLocalEndpoint('/api'), makeLocalEndpoint()))
  await reports.flush()
  t.equal(lines.length, 1, 'and complained of once')

  await store.entries.createMany([makeDraft({ id: 'api-2', spiffeId: '/api', parentId: two })])
  await replica.catchUp()
  await reports.flush()
  t.strictSame(await stored(), ['two /api 10.0.0.1', 'two /web 10.0.0.1'], 'an entry that comes later brings its endpoint')
  await store.entries.deleteMany(['web-2', 'api-2'])
  await replica.catchUp()
  await reports.flush()
  t.strictSame(await stored(), [], 'and one that goes takes it along')
})

t.test('an agent touches no endpoint of another one, whatever it says', async t => {
  const { reports, stored, replica } = await setUp(t)
  using honest = reports.open(one)
  using hostile = reports.open(two)
  honest.say(sent(makeLocalEndpoint(), makeLocalEndpoint('/api')))
  await reports.flush()
  const before = replica.services.reportedBy(one)
  const { id, agentId } = makeEndpoint('one')
  hostile.say(sent({ ...encodeEndpoint(makeLocalEndpoint('/web', '10.0.0.1', { incarnation: 'stolen' })), id, agentId }))
  await reports.flush()
  t.strictSame(replica.services.reportedBy(one), before, 'the same ID, the same address, its name')
  t.match(replica.services.reportedBy(two), [{ agentId: two, incarnation: 'stolen' }], 'it has a row of its own')
  hostile.say([])
  await reports.flush()
  t.strictSame(await stored(), ['one /api 10.0.0.1', 'one /web 10.0.0.1'])
})

t.test('what cannot be read is left out', async t => {
  const { reports, stored, lines } = await setUp(t)
  using agent = reports.open(one)
  const good = encodeEndpoint(makeLocalEndpoint())
  agent.say(sent({ ...good, address: '0.0.0.0' }, { ...good, transports: [] }, { ...good, spiffeId: 'web' }, good, good))
  await reports.flush()
  t.strictSame(await stored(), ['one /web 10.0.0.1'])
  t.match(lines, [{ refused: 3, reason: /address is unspecified/ }])
  const many = Array.from({ length: 1_005 }, (_, n) => ({ ...good, address: `10.1.${n >> 8}.${n & 255}` }))
  agent.say(sent(...many))
  await reports.flush()
  t.equal((await stored()).length, 1_000)
  t.match(lines.at(-1), { reason: 'it reports more than 1000' })
})

t.test('a node that flaps takes few numbers of the log, and ends at what it said last', async t => {
  const { clock, reports, stored, number } = await setUp(t)
  const before = await number()
  for (let round = 0; round < 50; round++) {
    // Coming back on a new stream makes it no better.
    using agent = reports.open(one)
    agent.say(sent(makeLocalEndpoint('/web', `10.0.0.${round + 1}`)))
    await reports.flush()
    await clock.advance(2)
  }
  t.equal(await number() - before, 20)
  using agent = reports.open(one)
  agent.say(sent(makeLocalEndpoint('/web', '10.0.0.99')))
  await reports.flush()
  t.notOk((await stored()).includes('one /web 10.0.0.99'))
  using calm = reports.open(two)
  calm.say(sent(makeLocalEndpoint()))
  await reports.flush()
  t.ok((await stored()).includes('two /web 10.0.0.1'), 'nobody else waits for it')
  await clock.advance(1_000)
  await reports.flush()
  t.strictSame(await stored(), ['one /web 10.0.0.99', 'two /web 10.0.0.1'])
  const settled = await number()
  agent.say(sent(makeLocalEndpoint('/web', '10.0.0.99')))
  await reports.flush()
  t.equal(await number(), settled, 'what says nothing new takes no number')
})

t.test('what the database comes to say otherwise is put right while the agent lives', async t => {
  const { clock, store, replica, reports, stored } = await setUp(t)
  const first = reports.open(one)
  first.say(sent(makeLocalEndpoint()))
  await reports.flush()
  using second = reports.open(one)
  second.say(sent(makeLocalEndpoint('/api')))
  first[Symbol.dispose]()
  await reports.flush()
  t.strictSame(await stored(), ['one /api 10.0.0.1'], 'the end of an older stream is no end of the newer one')
  await store.endpoints.replace(new Map([[one, []]]))
  await replica.catchUp()
  await reports.flush()
  t.strictSame(await stored(), ['one /api 10.0.0.1'])
  second[Symbol.dispose]()
  t.strictSame(await stored(), ['one /api 10.0.0.1'], 'an agent that is away is not gone')
  second.say(sent(makeLocalEndpoint()))
  await reports.flush()
  t.strictSame(await stored(), ['one /api 10.0.0.1'], 'and says nothing any more')
  await clock.advance(60_000)
  await store.endpoints.replace(new Map([[one, []]]))
  await replica.catchUp()
  await reports.flush()
  t.strictSame(await stored(), [], 'and nobody speaks for it')
})

t.test('a database that is away is written to when it is back', async t => {
  const { clock, store, replica, stored, log } = await setUp(t)
  let away = true
  const reports = new EndpointReports({
    replica, clock, log,
    endpoints: {
      all: () => store.endpoints.all(),
      replace: async endpoints => {
        if (away) throw new SpiffeError('datastore_unavailable', 'away')
        await store.endpoints.replace(endpoints)
      }
    }
  })
  const stop = new AbortController()
  const run = reports.run(stop.signal).catch(() => {})
  using agent = reports.open(one)
  agent.say(sent(makeLocalEndpoint()))
  await clock.advance(500)
  t.strictSame(await stored(), [])
  away = false
  for (let turns = 0; turns < 50 && (await stored()).length === 0; turns++) await clock.advance(100)
  t.strictSame(await stored(), ['one /web 10.0.0.1'])
  stop.abort()
  await run
})

t.test('endpoints of agents that are gone are removed by who does the chores', async t => {
  const { clock, store, replica, stored, log, number } = await setUp(t)
  const three = idOf('/spire/agent/join_token/thr')
  const fill = async () => {
    for (const id of [one, two, three]) await store.agents.attest(makeAgent(id, { expiresAt: new Date('2026-05-02') }))
    await store.endpoints.replace(new Map(['one', 'two', 'thr'].map(name => [makeEndpoint(name).agentId, [makeEndpoint(name)]])))
    await replica.catchUp()
  }
  const gone = new GoneReporters({ replica, clock, log })
  const sweep = async () => {
    await replica.catchUp()
    await gone.sweep(store)
    await replica.catchUp()
    return (await stored()).map(text => text.slice(0, 3))
  }
  const follow = (replicaId: string) => store.progress.report([one, two].map(agentId =>
    ({ agentId, replicaId, state: 'acknowledged' as const, cursor: { epoch: 'e', number: 1 }, unservedEntryIds: [], seenAt: clock.now() })))
  const live = () => store.replicas.report({ id: 'r', name: 'h', version: '1', startedAt: clock.now(), cursor: replica.cursor, facts: {} })
  await fill()
  await follow('r')
  await live()
  t.strictSame(await sweep(), ['one', 'thr', 'two'])
  const before = await number()
  await clock.advance(299_000)
  await live()
  t.strictSame(await sweep(), ['one', 'thr', 'two'], 'an agent may be away for a while')
  t.equal(await number(), before, 'nothing is written for nothing')
  await clock.advance(1_000)
  await live()
  t.strictSame(await sweep(), ['one', 'two'], 'who follows stays, however long it says nothing')

  await gone.sweep(undefined)
  await clock.advance(300_000)
  t.strictSame(await sweep(), ['one', 'two'], 'a replica that takes the chores over, or comes back from an outage, begins to count anew')
  await clock.advance(150_000)
  await live()
  t.strictSame(await sweep(), ['one', 'two'], 'back in time')
  await clock.advance(300_000)
  t.strictSame(await sweep(), ['one', 'two'])
  await clock.advance(300_000)
  t.strictSame(await sweep(), [], 'their replica died, and no other has them')

  await fill()
  await follow('r')
  await live()
  await store.agents.ban(one)
  await store.agents.delete(two)
  t.strictSame(await sweep(), ['thr'], 'banned and evicted, at once')
  await clock.advance(86_400_000)
  t.strictSame(await sweep(), [], 'expired')
})

import t from 'tap'
import type { Channel } from '../../src/rpc/channel.ts'
import { Mailbox } from '../../src/runtime/mailbox.ts'
import { agentSyncService, type CursorInit, type SyncRequestInit, type SyncResponse } from '../../src/wire/generated/agent-sync.ts'
import { clusterService, type ConsumerProgress, type Convergence } from '../../src/wire/generated/cluster.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { decodeCursor } from '../../src/wire/cursor-codec.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { attest, openServerChannel } from '../fakes/agent-client.ts'
import { capturedLog, type LogLine } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { startFollowingAgent } from '../fakes/following-agent.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'

interface Rig { readonly server: TestServer, readonly lines: readonly LogLine[] }

void t.test('what one agent says of its place in the log keeps nobody from being told of the others', async t => {
  const { log, lines } = capturedLog()
  await using server = await startTestServer({ log })
  const rig = { server, lines }
  await using honest = await startFollowingAgent(server)
  const { epoch = '', number = 0n } = honest.told.at(-1)?.cursor ?? {}
  const said: Record<string, Omit<SyncRequestInit, 'resume'>> = {
    'a number that no column has': { acknowledged: { epoch, number: 2n ** 62n } },
    'one that no signed integer has': { acknowledged: { epoch, number: 2n ** 64n - 1n } },
    'an epoch that PostgreSQL cannot store': { acknowledged: { epoch: `${epoch}\0`, number } },
    'an epoch without end': { acknowledged: { epoch: 'e'.repeat(1_000_000), number } },
    'entries that cannot be': { acknowledged: { epoch, number }, unservedEntryIds: ['x'.repeat(1_000_000), 'a\0'] }
  }
  for (const [what, request] of Object.entries(said)) {
    const agentId = await sayAndGo(rig, request)
    // What it said last is in the database once that says that it has left.
    let seen: readonly ConsumerProgress[] = []
    const left = () => seen.find(one => one.agentId === agentId)
    await eventually(`${what}: the agent has left`, async () => {
      seen = (await convergence(rig)).consumers
      return left()?.replicaId === ''
    })
    t.match(seen.find(one => one.agentId === honest.spiffeId), { state: 'acknowledged' }, what)
    t.strictSame(left()?.unservedEntryIds, [], `${what}: nothing of it is kept`)
  }
})

void t.test('a place in the log is read as servers write it', async t => {
  const read = (cursor: Required<CursorInit>) => decodeCursor({ epoch: cursor.epoch ?? '', number: BigInt(cursor.number ?? 0) })
  const ours = '97222fd6-444e-47cd-bc79-3bbff44d1b1f/7412345678901234567.16384/1'
  t.strictSame(read({ epoch: ours, number: 2n ** 53n - 1n }), { epoch: ours, number: 2 ** 53 - 1 })
  const none = ['', 'e'.repeat(256), 'a\0', 'a b', '\u{1f600}', '\n']
  for (const epoch of none) t.equal(read({ epoch, number: 1n }), undefined, JSON.stringify(epoch))
  for (const number of [2n ** 53n, 2n ** 64n - 1n]) t.equal(read({ epoch: ours, number }), undefined, `${number}`)
})

void t.test('an agent that says it is another version again and again has five of them written, and one a minute from then on', async t => {
  const clock = new ManualClock()
  await using server = await startTestServer({ clock })
  const identity = await attest(server)
  await using channel = openServerChannel(server, identity)
  const version = async () => (await server.admin.client(agentService).listAgents({})).agents[0]?.agentVersion
  const say = async (agentVersion: string) => {
    await using stream = await follow(channel, { agentVersion })
    return stream.answer.cursor?.number as bigint
  }
  const before = await say('')
  for (let n = 1; n <= 9; n++) await say(`version ${n}`)
  t.equal(await version(), 'version 5')
  t.equal(await say('version 10'), before + 5n, 'the others take no number of the log')
  await clock.advance(60_000)
  await say('version 11')
  await say('version 12')
  t.equal(await version(), 'version 11')
  await using other = openServerChannel(server, await attest(server))
  await follow(other, { agentVersion: 'another\'s' })
  const { agents } = await server.admin.client(agentService).listAgents({})
  t.strictSame(agents.map(({ agentVersion }) => agentVersion), ['version 11', 'another\'s'])
})

void t.test('an agent has so many streams and no more, and others have theirs', async t => {
  await using server = await startTestServer()
  await using channel = openServerChannel(server, await attest(server))
  const streams = []
  for (let n = 0; n < 64; n++) streams.push(await follow(channel, {}))
  await t.rejects(follow(channel, {}), { code: 'rate_limited' })
  await using other = openServerChannel(server, await attest(server))
  t.ok(await follow(other, {}))
  await streams[0]?.[Symbol.asyncDispose]()
  await eventually('there is room for another one', () => follow(channel, {}).then(() => true, () => false))
})

/** Returns once it was told something. */
async function follow (channel: Channel, first: SyncRequestInit): Promise<{ readonly answer: SyncResponse } & AsyncDisposable> {
  const requests = new Mailbox<SyncRequestInit>()
  requests.put(first)
  const stream = channel.client(agentSyncService).sync(requests)[Symbol.asyncIterator]()
  const { value } = await stream.next()
  return { answer: value as SyncResponse, [Symbol.asyncDispose]: async () => { await stream.return?.() } }
}

/**
 * An agent that was told the whole state says something, and goes when that was read: it then says what the server complains of in its log.
 * @returns its ID
 */
async function sayAndGo ({ server, lines }: Rig, said: SyncRequestInit): Promise<string> {
  const identity = await attest(server)
  const agentId = parseCertificate(identity.chain[0] as Uint8Array).uriSans[0] as string
  await using channel = openServerChannel(server, identity)
  const requests = new Mailbox<SyncRequestInit>()
  requests.put({ mesh: true })
  const stream = channel.client(agentSyncService).sync(requests)[Symbol.asyncIterator]()
  await stream.next()
  requests.put(said)
  requests.put({ endpointsChanged: true, endpoints: [{ spiffeId: 'spiffe://example.org/another', address: '10.0.0.1', transports: ['mtls'] }] })
  await eventually('what it said was read', () => lines.some(({ agent, reason }) => agent === agentId && reason !== undefined))
  return agentId
}

/** As it is now. */
async function convergence ({ server }: Rig): Promise<Convergence> {
  for await (const state of server.admin.client(clusterService).watchConvergence({ once: true })) return state
  throw new Error('no answer')
}

import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { handoverPath } from '../../src/agent/handover.ts'
import { openTlsChannel, openUnixChannel } from '../../src/rpc/channel.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { brokerService, WorkloadPIDReference } from '../../src/wire/generated/broker.ts'
import { delegatedIdentityService } from '../../src/wire/generated/delegated-identity.ts'
import { secretDiscoveryService } from '../../src/wire/generated/envoy-sds.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { splitCertificates } from '../../src/x509/certificate.ts'
import { securityHeader } from '../fakes/agent.ts'
import { eventually } from '../fakes/eventually.ts'
import { startAgent, startServer, type RunningAgent, type RunningServer } from '../fakes/processes.ts'
import { Workload } from '../faults/workload.ts'
import { freePort } from '../fakes/free-port.ts'

const id = (path: string) => ({ trustDomain: 'example.org', path })
const web = 'spiffe://example.org/web'
const patienceMs = 120_000
/** Of all clients together. */
const streamCount = 200

async function register (server: RunningServer, agent: RunningAgent): Promise<void> {
  await using admin = openUnixChannel(server.adminSocket)
  await admin.client(entryService).batchCreateEntry({ entries: [{
    spiffeId: id('/web'),
    parentId: id(agent.id.replace('spiffe://example.org', '')),
    selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }]
  }] })
  await eventually('the agent serves', async () => {
    await using channel = openUnixChannel(agent.socket)
    return await firstOf(channel.client(workloadService).fetchX509SVID({}, securityHeader)).then(() => true, () => false)
  }, 30_000)
}

/** Clients that never rest: whatever any of them is refused is noted, and so is each end of a stream. */
function busyClients (socket: string) {
  const stop = new AbortController()
  const { signal } = stop
  const seen = { failures: [] as string[], calls: 0, ends: 0, open: new Set<number>(), svids: new Set<string>() }
  const allOpen = Promise.withResolvers<void>()
  const fail = (what: string) => (error: unknown) => {
    if (!signal.aborted) seen.failures.push(`${what}: ${String(error)}`)
  }
  /** Opens its stream again when that has ended; each must begin with a state. */
  const watcher = async (number: number, open: (signal: AbortSignal) => AsyncIterable<unknown>, note: (answer: never) => void) => {
    while (!signal.aborted) {
      let first = true
      for await (const answer of open(signal)) {
        if (first) seen.open.add(number)
        first = false
        if (seen.open.size === streamCount) allOpen.resolve()
        note(answer as never)
      }
      seen.open.delete(number)
      if (signal.aborted) return
      seen.ends++
      if (first) throw new Error('a stream ended without a word')
    }
  }
  const channels = Array.from({ length: 10 }, () => openUnixChannel(socket))
  const tasks = channels.flatMap((channel, index) => {
    const workload = channel.client(workloadService)
    const sds = channel.client(secretDiscoveryService)
    const streams = Array.from({ length: 10 }, (_, stream) => [
      watcher(index * 100 + stream, signal => workload.fetchX509SVID({}, { ...securityHeader, signal }),
        ({ svids }: { svids: { spiffeId: string, x509Svid: Uint8Array }[] }) => {
          seen.svids.add(svids.map(({ spiffeId, x509Svid }) => `${spiffeId} ${Buffer.from(x509Svid).toString('hex')}`).join())
        }).catch(fail('FetchX509SVID')),
      watcher(index * 100 + 50 + stream, signal => sds.streamSecrets((async function * () {
        yield { resourceNames: [web], typeUrl: 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret' }
        await once(signal, 'abort')
      })(), { signal }), () => {}).catch(fail('StreamSecrets'))
    ]).flat()
    const caller = (async () => {
      // A busy machine would come to the last of the streams late.
      await Promise.race([allOpen.promise, once(signal, 'abort')])
      while (!signal.aborted) {
        await sds.fetchSecrets({ resourceNames: [web] }, { signal })
        await workload.fetchJWTSVID({ audience: ['db'] }, { ...securityHeader, signal })
        await using fresh = openUnixChannel(socket)
        await firstOf(fresh.client(workloadService).fetchX509SVID({}, { ...securityHeader, signal }))
        seen.calls++
      }
    })().catch(fail('call'))
    return [...streams, caller]
  })
  return {
    seen,
    async [Symbol.asyncDispose] () {
      stop.abort(new Error('the test is over'))
      await Promise.all(tasks)
      for (const channel of channels) await channel[Symbol.asyncDispose]()
    }
  }
}

t.test('an upgrade under many streams and calls: none fails, all streams end in good order and begin again', async t => {
  await using server = await startServer()
  await using first = await startAgent({ server })
  await register(server, first)
  await using clients = busyClients(first.socket)
  const { seen } = clients
  await eventually('all streams are open', () => seen.open.size === streamCount, patienceMs)

  let running: RunningAgent = first
  for (const round of [1, 2]) {
    const next = await startAgent({ server, folder: first.folder, config: { take_over: true } })
    t.teardown(() => next[Symbol.asyncDispose]())
    await running.process.exited()
    t.equal(running.process.exitCode, 0, `upgrade ${round}: the old process ended in good order`)
    const areThere = () => seen.ends >= streamCount * round && seen.open.size === streamCount
    await eventually('all streams are with the new one', areThere, patienceMs)
    const { calls } = seen
    await eventually('calls go on', () => seen.calls > calls + 20, patienceMs)
    running = next
  }
  t.same(seen.failures, [], 'no call failed')
  t.equal(seen.ends, 2 * streamCount, 'each stream ended once per upgrade')
  t.equal(seen.svids.size, 1, 'and saw the same SVID all the time')
})

t.test('a successor that fails, and one that may not', async t => {
  await using server = await startServer()
  await using agent = await startAgent({ server })
  await register(server, agent)
  await t.rejects(startAgent({ server, folder: agent.folder }), /socket_in_use/, 'without take_over a second agent is refused')

  const asking = connect(handoverPath(agent.socket))
  t.equal(String((await once(asking, 'data'))[0]), 'ready\n')
  asking.destroy()
  await agent.process.logged('the other process did not take over; going on')
  await using admin = openUnixChannel(server.adminSocket)
  const { entries: [entry] } = await admin.client(entryService).listEntries({})
  const renamed = { id: entry?.id ?? '', spiffeId: id('/renamed') }
  await admin.client(entryService).batchUpdateEntry({ entries: [renamed], inputMask: { spiffeId: true } })
  await eventually('it follows its server again', async () => {
    await using channel = openUnixChannel(agent.socket)
    const state = await firstOf(channel.client(workloadService).fetchX509SVID({}, securityHeader)).catch(() => undefined)
    return state?.svids[0]?.spiffeId === 'spiffe://example.org/renamed'
  }, 30_000)

  await using memory = await startAgent({ server, plugins: { KeyManager: { memory: {} } } })
  await t.rejects(
    startAgent({ server, folder: memory.folder, plugins: { KeyManager: { memory: {} } }, config: { take_over: true } }),
    /socket_in_use/, 'an agent that keeps nothing has nothing to hand over'
  )
})

t.test('delegates and brokers are sent to the successor too', async t => {
  await using server = await startServer()
  const folder = await mkdtemp(join(tmpdir(), 'sockets-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const sockets = { admin: join(folder, 'admin.sock'), broker: join(folder, 'broker.sock') }
  const port = await freePort()
  const brokers = [{ id: web, allowed_reference_types: [{ type_url: '*', allow_over_tcp: true }] }]
  const config = {
    admin_socket_path: sockets.admin,
    authorized_delegates: [web],
    experimental: { sync_interval: '200ms', broker: { socket_path: sockets.broker, bind_address: `127.0.0.1:${port}`, brokers } }
  }
  await using first = await startAgent({ server, config })
  await register(server, first)
  await using workload = new Workload(first.socket)
  const { svids: [svid] } = await workload.granted(web)
  const identity = { chain: splitCertificates(svid?.x509Svid ?? new Uint8Array()), privateKey: svid?.x509SvidKey ?? new Uint8Array() }

  await using scope = new AsyncDisposableStack()
  const reference = {
    typeUrl: 'type.googleapis.com/spiffe.broker.WorkloadPIDReference', value: encodeMessage(WorkloadPIDReference, { pid: process.pid })
  }
  /** A stream of each kind, over connections of their own. */
  const open = () => {
    const brokerAt = (address: string) =>
      scope.use(openTlsChannel({ address, identity: () => identity, verifyServer: () => {}, log: silentLogger })).client(brokerService)
        .subscribeToX509SVID({ reference: { reference } }, { metadata: { 'broker.spiffe.io': 'true' } })
    const delegate = scope.use(openUnixChannel(sockets.admin)).client(delegatedIdentityService).subscribeToX509Bundles({})
    const all: readonly AsyncIterable<unknown>[] = [delegate, brokerAt(`unix:${sockets.broker}`), brokerAt(`127.0.0.1:${port}`)]
    return all.map(stream => stream[Symbol.asyncIterator]())
  }
  const streams = open()
  for (const stream of streams) t.equal((await stream.next()).done, false, 'a stream is open')
  await using next = await startAgent({ server, folder: first.folder, config: { ...config, take_over: true } })
  for (const stream of streams) t.equal((await stream.next()).done, true, 'it ends in good order')
  await first.process.exited()
  t.equal(first.process.exitCode, 0)
  await eventually('the port is the successor\'s', () => next.process.lines().some(line =>
    line['msg'] === 'broker endpoint is open' && line['port'] === port))
  for (const stream of open()) t.equal((await stream.next()).done, false, 'and begins again at the successor')
})

import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { DeltaDiscoveryRequest, DiscoveryRequest } from '../../src/wire/generated/envoy-sds.ts'
import { SyncAuthorizedEntriesRequest } from '../../src/wire/generated/server-entry.ts'
import { attest, createJoinToken } from '../fakes/agent-client.ts'
import { eventually } from '../fakes/eventually.ts'
import { startAgent, startServer, type RunningAgent, type RunningServer } from '../fakes/processes.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'
import {
  floodStream, garbage, grpcMessage, httpGarbage, rawCall, rawStream, residentMiB, resetRapidly, tcpTarget, throwAt, tlsTarget,
  unixTarget, type Target
} from './listeners.ts'
import { leafOf, securityHeader, Workload } from './workload.ts'

const maxGrowthMiB = 200
const nodeEntries = 501

t.test('hostile bytes on every listener', async t => {
  const blocks = {
    telemetry: { Prometheus: { host: '127.0.0.1', port: 0 } },
    health_checks: { listener_enabled: true, bind_address: '127.0.0.1', bind_port: 0 }
  }
  await using server = await startServer({ blocks })
  await using agent = await startAgent({ server, blocks })
  await using admin = new Administrator(server)
  await admin.register('spiffe://example.org/workload', agent.id)
  const node = await attestNode(server, admin)
  await stillServing(t, server, agent)
  const before = { server: residentMiB(server.pid), agent: residentMiB(agent.pid) }
  const listeners = [
    { target: unixTarget('admin socket', server.adminSocket), method: '/spire.api.server.entry.v1.Entry/GetEntry' },
    { target: tlsTarget('TLS port', server.port), method: '/spire.api.server.bundle.v1.Bundle/GetBundle' },
    { target: unixTarget('agent\'s socket', agent.socket), method: '/SpiffeWorkloadAPI/FetchJWTSVID' }
  ]

  for (const target of [...listeners.map(listener => listener.target), tcpTarget('TLS port before the handshake', server.port)]) {
    await t.test(`garbage on the ${target.name}`, async t => {
      for (const [what, bytes] of Object.entries(garbage)) {
        await throwAt(target, bytes)
        t.ok(server.process.running && agent.process.running, `survives ${what}`)
      }
      await stillServing(t, server, agent)
    })
  }
  for (const { name, running, metrics, ready } of await diagnosticsOf({ server, agent })) {
    await t.test(`garbage on what the ${name} shows over HTTP`, async t => {
      for (const [what, url] of Object.entries({ metrics, ready })) {
        const target = tcpTarget(`${name}'s ${what}`, Number(new URL(url).port))
        for (const [how, bytes] of Object.entries(httpGarbage)) {
          await throwAt(target, bytes)
          t.equal((await fetch(url)).status, 200, `${target.name} survives ${how}`)
        }
        const idle = await openMany(target, 1000)
        // Few are let in at a time to metrics, and the idle ones are soon thrown out.
        await eventually(`${target.name} answers beside 1 000 idle connections`, () => fetch(url).then(({ ok }) => ok, () => false), 20_000)
        for (const socket of idle) socket.destroy()
        t.ok(running.process.running, `${target.name} survives 1 000 idle connections`)
      }
      await stillServing(t, server, agent)
    })
  }
  for (const { target, method } of listeners) {
    await t.test(`messages on the ${target.name}`, async t => {
      await hostileMessages(t, target, method)
      await resetRapidly(target, method, 5000)
      await stillServing(t, server, agent)
    })
  }
  const atNode = tlsTarget('TLS port, as an agent', server.port, node)
  const agentSocket = unixTarget('agent\'s socket', agent.socket)
  const secrets = '/envoy.service.secret.v3.SecretDiscoveryService'
  for (const { target, method, good } of [
    { target: tlsTarget('TLS port', server.port), method: '/spire.api.server.agent.v1.Agent/AttestAgent', good: undefined },
    {
      target: atNode,
      method: '/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries',
      good: encodeMessage(SyncAuthorizedEntriesRequest, { outputMask: { spiffeId: true, revisionNumber: true } })
    },
    { target: agentSocket, method: `${secrets}/StreamSecrets`, good: encodeMessage(DiscoveryRequest, { resourceNames: ['ROOTCA'] }) },
    {
      target: agentSocket,
      method: `${secrets}/DeltaSecrets`,
      good: encodeMessage(DeltaDiscoveryRequest, { resourceNamesSubscribe: ['ROOTCA'] })
    }
  ]) {
    await t.test(`garbage on an open stream of ${method}`, async t => {
      for (const [what, { bytes, status }] of Object.entries(badMessages)) {
        const answer = await rawStream(target, method, { good: good === undefined ? undefined : grpcMessage(good), bad: bytes })
        // A stream may end in the middle of a message: that is its end.
        if (status !== undefined || good === undefined) t.match(answer.status, status ?? /^[1-9]/, what)
        t.equal(answer.answered, good !== undefined, `${what}: what was good before it is answered`)
      }
      t.ok(await floodStream(target, method, grpcMessage(good ?? new Uint8Array())) > 0, 'messages without end, whose answers nobody reads')
      await stillServing(t, server, agent)
    })
  }
  await t.test('1 000 idle connections on each', async t => {
    for (const target of [...listeners.map(listener => listener.target), tcpTarget('TLS port before the handshake', server.port)]) {
      await idleConnections(t, target, server, agent)
    }
  })
  for (const [name, running] of Object.entries({ server, agent })) {
    const grown = residentMiB(running.pid) - before[name as keyof typeof before]
    t.ok(grown < maxGrowthMiB, `the ${name} grew by ${Math.round(grown)} MiB, less than ${maxGrowthMiB}`)
    t.notMatch(running.log(), /"level":"(?:error|fatal)"/, `nothing of it was a bug of the ${name}`)
  }
})

/** With the status each is answered with; undefined: any but OK. */
const badMessages: Readonly<Record<string, { readonly bytes: Buffer, readonly status: string | undefined }>> = {
  'a message of 5 MiB: RESOURCE_EXHAUSTED': { bytes: grpcMessage(Buffer.alloc(5 * 1024 * 1024)), status: '8' },
  'a prefix that promises 4 GiB: RESOURCE_EXHAUSTED': { bytes: grpcMessage(Buffer.alloc(10), 0xffffffff), status: '8' },
  'a message cut short is not taken': { bytes: grpcMessage(Buffer.alloc(10), 1000), status: undefined },
  'a field that promises more than there is: INTERNAL': { bytes: grpcMessage(Buffer.from('0affffffffff7f', 'hex')), status: '13' },
  'groups within groups: INTERNAL': { bytes: grpcMessage(Buffer.from('0b'.repeat(100_000), 'hex')), status: '13' }
}

async function hostileMessages (t: Test, target: Target, method: string): Promise<void> {
  for (const [what, { bytes, status }] of Object.entries(badMessages)) {
    const answer = await rawCall(target, method, bytes, securityHeader)
    if (status === undefined) t.not(answer.status, '0', what)
    else t.equal(answer.status, status, what)
  }
  const { status } = await rawCall(target, '/no.such/Method', grpcMessage(new Uint8Array()))
  t.equal(status, '12', 'WLE-16 a method that is not there: UNIMPLEMENTED')
}

/** Another agent, with more entries than fit one page: its synchronisation is a stream that stays open. */
async function attestNode (server: RunningServer, admin: Administrator) {
  await using channel = openUnixChannel(server.adminSocket)
  const access = { ready: server, admin: channel }
  const token = await createJoinToken(access)
  const parentId = idMessage(`spiffe://example.org/spire/agent/join_token/${token}`)
  await admin.entries.batchCreateEntry({
    entries: Array.from({ length: nodeEntries }, (_, index) => (
      { spiffeId: idMessage(`spiffe://example.org/w${index}`), parentId, selectors: [{ type: 'unix', value: 'uid:1' }] }
    ))
  })
  return await attest(access, token)
}

/** Where each shows its metrics and its health. */
async function diagnosticsOf (processes: { readonly server: RunningServer, readonly agent: RunningAgent }) {
  return await Promise.all(Object.entries(processes).map(async ([name, running]) => {
    const { address } = await running.process.logged('serving metrics')
    const { port } = await running.process.logged('health checks are served')
    return { name, running, metrics: `http://${String(address)}/metrics`, ready: `http://127.0.0.1:${String(port)}/ready` }
  }))
}

async function openMany (target: Target, count: number): Promise<Socket[]> {
  const sockets = []
  for (let opened = 0; opened < count; opened += 50) sockets.push(...await Promise.all(Array.from({ length: 50 }, () => target.open())))
  return sockets
}

async function idleConnections (t: Test, target: Target, server: RunningServer, agent: RunningAgent): Promise<void> {
  const sockets = await openMany(target, 1000)
  t.equal(sockets.length, 1000, `1 000 idle connections to the ${target.name}`)
  await stillServing(t, server, agent)
  for (const socket of sockets) socket.destroy()
}

async function stillServing (t: Test, server: RunningServer, agent: RunningAgent): Promise<void> {
  await using admin = new Administrator(server)
  t.equal((await admin.entries.countEntries({})).count, nodeEntries + 1, 'the server answers')
  await using workload = new Workload(agent.socket)
  t.equal(leafOf(await workload.granted('spiffe://example.org/workload')).uriSans[0], 'spiffe://example.org/workload', 'the agent answers')
}

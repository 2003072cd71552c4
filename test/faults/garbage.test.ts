import t, { type Test } from 'tap'
import { startAgent, startServer, type RunningAgent, type RunningServer } from '../fakes/processes.ts'
import { Administrator } from '../interop/administrator.ts'
import {
  garbage, grpcMessage, rawCall, residentMiB, resetRapidly, tcpTarget, throwAt, tlsTarget, unixTarget, type Target
} from './listeners.ts'
import { leafOf, securityHeader, Workload } from './workload.ts'

const maxGrowthMiB = 200

t.test('hostile bytes on every listener', async t => {
  await using server = await startServer()
  await using agent = await startAgent({ server })
  await using admin = new Administrator(server)
  await admin.register('spiffe://example.org/workload', agent.id)
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
  for (const { target, method } of listeners) {
    await t.test(`messages on the ${target.name}`, async t => {
      await hostileMessages(t, target, method)
      await resetRapidly(target, method, 5000)
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

async function hostileMessages (t: Test, target: Target, method: string): Promise<void> {
  const call = (body: Buffer) => rawCall(target, method, body, securityHeader)
  t.equal((await call(grpcMessage(Buffer.alloc(5 * 1024 * 1024)))).status, '8', 'a message of 5 MiB: RESOURCE_EXHAUSTED')
  t.equal((await call(grpcMessage(Buffer.alloc(10), 0xffffffff))).status, '8', 'a prefix that promises 4 GiB: RESOURCE_EXHAUSTED')
  t.not((await call(grpcMessage(Buffer.alloc(10), 1000))).status, '0', 'a message cut short is not taken')
  const greedy = grpcMessage(Buffer.from('0affffffffff7f', 'hex'))
  t.equal((await call(greedy)).status, '13', 'a field that promises more than there is: INTERNAL')
  t.equal((await call(grpcMessage(Buffer.from('0b'.repeat(100_000), 'hex')))).status, '13', 'groups within groups: INTERNAL')
  const { status } = await rawCall(target, '/no.such/Method', grpcMessage(new Uint8Array()))
  t.equal(status, '12', 'WLE-16 a method that is not there: UNIMPLEMENTED')
}

async function idleConnections (t: Test, target: Target, server: RunningServer, agent: RunningAgent): Promise<void> {
  const sockets = []
  for (let opened = 0; opened < 1000; opened += 50) sockets.push(...await Promise.all(Array.from({ length: 50 }, () => target.open())))
  t.equal(sockets.length, 1000, `1 000 idle connections to the ${target.name}`)
  await stillServing(t, server, agent)
  for (const socket of sockets) socket.destroy()
}

async function stillServing (t: Test, server: RunningServer, agent: RunningAgent): Promise<void> {
  await using admin = new Administrator(server)
  t.equal((await admin.entries.countEntries({})).count, 1, 'the server answers')
  await using workload = new Workload(agent.socket)
  t.equal(leafOf(await workload.granted('spiffe://example.org/workload')).uriSans[0], 'spiffe://example.org/workload', 'the agent answers')
}

import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer, type TLSSocket } from 'node:tls'
import t from 'tap'
import { openTlsChannel } from '../../src/rpc/channel.ts'
import { bind, openRpcServer } from '../../src/rpc/server.ts'
import { contextOptions } from '../../src/rpc/tls-identity.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { agreedGroup, pqAgreements } from '../fakes/agreed-group.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { noFederation, startTestServer } from '../fakes/server.ts'

const authority = await createTestAuthority('example.org')
const withoutMlKem = { ecdhCurve: 'X25519' }

async function serve (demands: { readonly requirePqKem?: boolean }) {
  const identity = await authority.issue('/spire/server')
  const server = openRpcServer({
    log: silentLogger, clock: systemClock, services: [bind(entryService, { countEntries: async () => ({ count: 1 }) })]
  })
  const { host, port } = await server.listenTls({
    host: '127.0.0.1', port: 0, identity: () => identity, bundleOf: authority.bundleOf, ...demands
  })
  return { server, address: `${host}:${port}`, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() }
}

void t.test('require_pq_kem: a server agrees on a key by ML-KEM, or on none', async t => {
  await using served = await serve({ requirePqKem: true })
  for (const when of ['at first', 'with the next identity']) {
    for (const [what, offer, answer] of pqAgreements) {
      t.match(await agreedGroup(served.address, offer), answer, `${when}, a client ${what}`)
    }
    served.server.refreshIdentity()
  }
  await using channel = openTlsChannel({ address: served.address, requirePqKem: true, verifyServer: () => {}, log: silentLogger })
  t.same(await channel.client(entryService).countEntries({}), { count: 1 }, 'and calls are made over it')

  await using plain = await serve({})
  t.equal(await agreedGroup(plain.address, withoutMlKem), 'TLSv1.3 X25519', 'without it all clients are served as before')
  t.match(await agreedGroup(plain.address, { maxVersion: 'TLSv1.2' }), /^TLSv1\.2 /)
})

void t.test('require_pq_kem: a client turns to no server without ML-KEM, and says why', async t => {
  const agreed: string[] = []
  const server = createServer({ ...contextOptions(await authority.issue('/spire/server')), ...withoutMlKem, ALPNProtocols: ['h2'] })
  server.on('secureConnection', (socket: TLSSocket) => {
    agreed.push(String(socket.getProtocol()))
    socket.destroy()
  }).on('tlsClientError', () => undefined).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const call = async (requirePqKem: boolean) => {
    await using channel = openTlsChannel({ address, requirePqKem, verifyServer: () => {}, log: silentLogger })
    return await channel.client(entryService).countEntries({}, { timeoutMs: 30_000 })
  }
  const refused = { name: 'RpcError', status: 'UNAVAILABLE' }
  await t.rejects(call(true), { ...refused, message: /require_pq_kem is set, and the server does not take TLS 1\.3 with ML-KEM/ })
  t.same(agreed, [], 'no connection was made')
  await t.rejects(call(false), refused)
  t.match(agreed, ['TLSv1.3'], 'as one is without it')
})

void t.test('require_pq_kem: of a server\'s API and bundle endpoint, and of an agent and its Broker Endpoint', async t => {
  const bundleEndpoint = {
    address: '127.0.0.1', port: 0, refreshHintSeconds: undefined, profile: { kind: 'https_spiffe' }, profileNamed: true
  } as const
  await using server = await startTestServer({ config: { requirePqKem: true, federation: { ...noFederation, bundleEndpoint } } })
  const { log, lines } = capturedLog()
  const broker = {
    socketPath: undefined, bind: { host: '127.0.0.1', port: 0 },
    brokers: new Map([[parseSpiffeId('spiffe://example.org/broker'), { allowedTypes: new Map([['*', { allowOverTcp: true }]]) }]])
  }
  await using agent = await startTestAgent(server, { log, config: { requirePqKem: true, broker } })
  const { agents } = await server.admin.client(agentService).listAgents({})
  t.match(agents, [{ id: { path: agent.path } }], 'the agent joined')
  const opened = () => lines.find(({ msg, port }) => msg === 'broker endpoint is open' && port !== undefined)?.['port']
  await eventually('the Broker Endpoint to be open', () => opened() !== undefined)
  const places = { API: server.ready.port, 'bundle endpoint': (await server.bundleEndpoint).port, 'Broker Endpoint': Number(opened()) }
  for (const [place, port] of Object.entries(places)) {
    for (const [what, offer, answer] of pqAgreements) t.match(await agreedGroup(`127.0.0.1:${port}`, offer), answer, `${place}: ${what}`)
  }
})

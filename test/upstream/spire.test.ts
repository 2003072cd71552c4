import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import t from 'tap'
import { bind, openRpcServer } from '../../src/rpc/server.ts'
import { contextOptions } from '../../src/rpc/tls-identity.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { spireUpstreamPlugin } from '../../src/upstream/spire/spire-upstream-plugin.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { createTestAuthority } from '../fakes/authority.ts'

const never = new AbortController().signal

void t.test('a server below another: require_pq_kem of its connection to the one above', async t => {
  const authority = await createTestAuthority('example.org')
  const own = await authority.issue('/below')
  const folder = await mkdtemp(join(tmpdir(), 'above-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const agent = openRpcServer({
    log: silentLogger, clock: systemClock, services: [bind(workloadService, {
      async * fetchX509SVID (_request, { signal }) {
        yield { svids: [{
          spiffeId: 'spiffe://example.org/below', x509Svid: Buffer.concat(own.chain), x509SvidKey: own.privateKey,
          bundle: authority.certificate.raw
        }] }
        await once(signal, 'abort')
      }
    })]
  })
  t.teardown(() => agent[Symbol.asyncDispose]())
  const { path } = await agent.listenUnix({ path: join(folder, 'agent.sock') })
  let connections = 0
  const above = createServer({
    ...contextOptions(await authority.issue('/spire/server')), ecdhCurve: 'X25519', ALPNProtocols: ['h2']
  }, socket => {
    connections++
    socket.destroy()
  })
  above.on('tlsClientError', () => undefined).listen(0, '127.0.0.1')
  await once(above, 'listening')
  t.teardown(() => above.close())

  const mint = async (experimental: object) => {
    const config = spireUpstreamPlugin.config.parse({
      server_address: '127.0.0.1', server_port: (above.address() as AddressInfo).port, workload_api_socket: path, experimental
    })
    const host = { trustDomain: authority.trustDomain, clock: systemClock, log: silentLogger }
    await using upstream = await spireUpstreamPlugin.start(config, host, never)
    await upstream.mintX509Ca({ csr: Buffer.from('csr'), ttlSeconds: 60 }, never)
  }
  const message = /require_pq_kem is set, and the server does not/
  await t.rejects(mint({ require_pq_kem: true }), { code: 'upstream_unavailable', message })
  t.equal(connections, 0, 'no connection was made to one without ML-KEM')
  await t.rejects(mint({}), { code: 'upstream_unavailable' })
  t.not(connections, 0, 'as one is without it')
})

t.test('a server below another: SPIRE\'s keys are read, or refused by name', async t => {
  const parse = (experimental: object) => spireUpstreamPlugin.config.safeParse({
    server_address: 'above', server_port: '8081', workload_api_socket: '/s', experimental
  })
  t.match(parse({ require_pq_kem: true, workload_api_named_pipe_name: '' }).data, { experimental: { require_pq_kem: true } })
  t.match(parse({ workload_api_named_pipe_name: 'pipe' }).error?.issues, [{
    path: ['experimental', 'workload_api_named_pipe_name'], message: /is not offered: Windows/
  }])
})

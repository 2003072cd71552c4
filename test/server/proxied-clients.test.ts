import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { parseNetwork } from '../../src/authz/policy/network.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { attest, createJoinToken, openServerChannel } from '../fakes/agent-client.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock, settle } from '../fakes/clock.ts'
import { Envoy, findEnvoy, localAddress } from '../fakes/envoy.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'

/** Of all that runs here on one machine, Envoy alone is trusted; the clients come from elsewhere. */
const proxies = '127.0.0.1/32'
const skip = findEnvoy() === undefined && 'there is no envoy; run `npm run setup`'

await t.test('proxy_protocol_trusted_cidrs: behind a real Envoy the server sees the clients', { skip }, async t => {
  const { log, lines } = capturedLog()
  const clock = new ManualClock(new Date())
  const trustedProxies = [parseNetwork(proxies)!]
  await using server = await startTestServer({
    log, clock, config: { trustedProxies, auditLog: true, ratelimit: { attestation: true, signing: true } }
  })
  await using envoy = await Envoy.start({ static_resources: {
    listeners: ['V1', 'V2'].map(version => listener(version)), clusters: ['V1', 'V2'].map(version => cluster(version, server.ready.port))
  } })
  await envoy.ready()
  const through = async (version: string, from: string) => ({
    admin: server.admin, ready: { ...server.ready, port: await openHop(t, from, await envoy.listenerPort(version) ?? 0) }
  })
  const audited = async (method: string) => {
    const found = () => lines.findLast(line => line['type'] === 'audit' && line['method'] === method)
    await eventually(`${method} is in the audit log`, () => found() !== undefined)
    return found()
  }

  const first = await through('V2', '127.0.0.7')
  const identity = await attest(first)
  t.match(await audited('AttestAgent'), { caller_addr: /^127\.0\.0\.7:\d+$/, status: 'success' }, 'version 2')
  await using agent = openServerChannel(await through('V1', '127.0.0.8'), identity)
  await agent.client(entryService).getAuthorizedEntries({})
  t.match(await audited('GetAuthorizedEntries'), { caller_addr: /^127\.0\.0\.8:\d+$/, caller_id: /\/spire\/agent\// }, 'version 1')

  const token = await createJoinToken(server)
  const sleeping = clock.sleeping
  let done = false
  const waiting = attest(first, token).then(() => { done = true })
  const connections = () => lines.filter(({ msg, address }) => msg === 'connection accepted' && String(address).startsWith('127.0.0.7:'))
  // By then no handshake sleeps any more: it is the call.
  await eventually('the same client waits for its turn', () => connections().length === 2 && clock.sleeping > sleeping)
  await attest(await through('V2', '127.0.0.9'))
  await settle()
  t.notOk(done, 'another one behind the same proxy does not wait with it')
  await clock.advance(1_000)
  await eventually('its second is over', () => done)
  await waiting

  await using direct = openServerChannel(server)
  await t.rejects(direct.client(agentService).countAgents({}), /authorization denied/)
  t.match(await audited('CountAgents'), { caller_addr: /^127\.0\.0\.1:\d+$/ }, 'who comes without a proxy is who it is')
})

function listener (version: string): object {
  const filter = {
    name: 'tcp', typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', stat_prefix: version, cluster: version
    }
  }
  return { name: version, address: localAddress(0), filter_chains: [{ filters: [filter] }] }
}

function cluster (version: string, port: number): object {
  const raw = { '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer' }
  return {
    name: version,
    load_assignment: { cluster_name: version, endpoints: [{ lb_endpoints: [{ endpoint: { address: localAddress(port) } }] }] },
    transport_socket: {
      name: 'proxy_protocol', typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport',
        config: { version }, transport_socket: { name: 'raw', typed_config: raw }
      }
    }
  }
}

/** A port behind which connections come from this address. */
async function openHop (t: Test, from: string, to: number): Promise<number> {
  const server = createServer(client => {
    const onward = connect({ host: '127.0.0.1', port: to, localAddress: from })
    for (const [one, other] of [[client, onward], [onward, client]] as const) {
      one.on('error', () => other.destroy()).on('close', () => other.destroy()).pipe(other)
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => { server.close() })
  return (server.address() as AddressInfo).port
}

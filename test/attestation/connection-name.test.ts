import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import t from 'tap'
import { attestConnection } from '../../src/attestation/socket/attest-connection.ts'
import { connectionNameFormat, parseConnectionName } from '../../src/attestation/socket/connection-name.ts'
import { openSocketDiagnosis } from '../../src/attestation/socket/socket-diagnosis.ts'
import { createUnixAttestor } from '../../src/attestation/workload/unix/unix-attestor.ts'
import { redirectRules } from '../../src/redirect/nft-rules.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { formatSelector } from '../../src/spiffe/selector.ts'
import { findEnvoy } from '../fakes/envoy.ts'
import { Acceptor, Namespace, needsNamespaces } from '../fakes/namespace.ts'
import { Shell } from '../fakes/shell.ts'

const envoy = findEnvoy()
const hasNft = spawnSync('nft', ['--version'], { stdio: 'ignore' }).status === 0
const skip = needsNamespaces !== false ? needsNamespaces : !hasNft ? 'needs nft' : envoy === undefined ? 'needs Envoy' : false

void t.test('names of connections', t => {
  t.strictSame(parseConnectionName('conn/192.0.2.1:51398/198.51.100.7:80/17'), {
    source: { address: '192.0.2.1', port: 51_398 }, destination: { address: '198.51.100.7', port: 80 }, id: '17'
  })
  t.match(parseConnectionName('conn/[2001:db8::1]:1/[::1]:65535/0'), { source: { address: '2001:db8::1' }, destination: { port: 65_535 } })
  for (const name of [
    'conn/192.0.2.1:1/192.0.2.2:2', 'conn/192.0.2.1:1/192.0.2.2:2/', 'conn/192.0.2.1:1/192.0.2.2:2/x', 'conn/192.0.2.1:1/192.0.2.2:2/1/',
    'conn/192.0.2.1/192.0.2.2:2/1', 'conn/192.0.2.1:0/192.0.2.2:2/1', 'conn/192.0.2.1:65536/192.0.2.2:2/1', 'conn/example:1/192.0.2.2:2/1',
    'conn/[192.0.2.1]:1/192.0.2.2:2/1', 'conn/2001:db8::1:1/192.0.2.2:2/1', 'conn/unix:/1', 'conn/-/-/1', 'spiffe://example.org/a', ''
  ]) t.equal(parseConnectionName(name), undefined, name)
  t.end()
})

const chain = [
  {
    name: 'envoy.filters.network.set_filter_state',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config',
      on_new_connection: [{
        object_key: 'envoy.tls.certificate_mappers.on_demand_secret',
        factory_key: 'envoy.hashable_string',
        format_string: { text_format_source: { inline_string: connectionNameFormat } },
        shared_with_upstream: 'ONCE'
      }]
    }
  },
  {
    name: 'envoy.filters.network.tcp_proxy',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',
      stat_prefix: 'out',
      cluster: 'out',
      access_log_options: { flush_access_log_on_connected: true },
      access_log: [{
        name: 'envoy.access_loggers.stdout',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog',
          log_format: {
            text_format_source: { inline_string: '%FILTER_STATE(envoy.tls.certificate_mappers.on_demand_secret:PLAIN)%\n' }
          }
        }
      }]
    }
  }
]

const listener = (name: string, address: string) => ({
  name,
  address: { socket_address: { address, port_value: 15_001 } },
  listener_filters: [{
    name: 'envoy.filters.listener.original_dst',
    typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst' }
  }],
  filter_chains: [{ filters: chain }]
})

const config = {
  static_resources: {
    listeners: [listener('ipv4', '127.0.0.1'), listener('ipv6', '::1')],
    clusters: [{ name: 'out', type: 'ORIGINAL_DST', lb_policy: 'CLUSTER_PROVIDED', connect_timeout: '3s' }]
  }
}

void t.test('Envoy names a redirected connection so that its process is found', { skip }, async t => {
  await using pair = await Namespace.openPair()
  const { here, there } = pair
  await using elsewhere = await Acceptor.start(there, [['0.0.0.0', 8080], ['::', 8080]])
  const [program, ...before] = here.enter
  const alone = ['--disable-hot-restart', '--concurrency', '1', '--file-flush-interval-msec', '10', '-l', 'info']
  const words = [...before, envoy!, '--config-yaml', JSON.stringify(config), ...alone]
  const proxy = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = once(proxy, 'exit')
  t.teardown(async () => {
    proxy.kill('SIGKILL')
    await ended
  })
  const names = createInterface({ input: proxy.stdout })[Symbol.asyncIterator]()
  for await (const line of createInterface({ input: proxy.stderr })) if (line.includes('starting main dispatch loop')) break
  const rules = redirectRules({ scope: { kind: 'uid', uid: 4711 }, outboundPort: 15_001, excludePorts: [], excludeCidrs: [] })
  await here.run('sh', '-c', `nft -f - <<'END'\n${rules}\nEND`)

  await using alice = await Shell.start({ within: [...here.enter, 'setpriv', '--reuid=4711', '--regid=4711', '--clear-groups'] })
  using sockets = openSocketDiagnosis({ netns: here.path })
  const attestors = [createUnixAttestor({ discoverWorkloadPath: false, workloadSizeLimit: 0 })]
  const deps = { sockets, attestors, clock: systemClock, log: silentLogger }
  const seen = new Set<string>()
  /** Envoy says each once more when it ends. */
  const nextName = async (): Promise<string> => {
    for (;;) {
      const { value } = await names.next() as { value: string }
      if (seen.size < seen.add(value).size) return value
    }
  }
  for (const address of ['192.0.2.2', '2001:db8::2']) {
    await alice.run(`exec 3<>/dev/tcp/${address}/8080`)
    t.equal((await elsewhere.next()).port, 8080, 'Envoy connects to what was asked for')
    const name = parseConnectionName(await nextName())
    t.match(name?.destination, { address, port: 8080 }, 'and names it')
    const found = await attestConnection(name!.source, name!.destination, deps, new AbortController().signal)
    t.strictSame(found.map(formatSelector), ['unix:gid:4711', 'unix:uid:4711'])
  }
})

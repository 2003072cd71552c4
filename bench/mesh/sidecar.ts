import { writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { findEnvoy, until } from '../../test/fakes/envoy.ts'
import type { PodNetwork } from '../../test/fakes/pods.ts'

export const sidecarPorts = { http: 15_101, tcp: 15_102, inboundHttp: 15_443, inboundTcp: 15_444 } as const

export interface SidecarOptions {
  readonly folder: string
  /** Of the agent: classic SDS. */
  readonly agentSocket: string
  /** Name of its own secret. */
  readonly id: string
  /** Whom it calls, and who may call. */
  readonly peer: string
  readonly peerAddress: string
}

/** An Envoy of one workload only, in its pod, with the same TLS as the node's. @returns its pid once it is ready */
export async function startSidecar (network: PodNetwork, pod: string, options: SidecarOptions): Promise<number> {
  const name = pod.replaceAll('/', '-')
  const file = join(options.folder, `${name}.json`)
  const admin = join(options.folder, `${name}.sock`)
  writeFileSync(file, JSON.stringify(config(options, admin)))
  const child = network.spawnIn(pod, findEnvoy() ?? 'envoy', '-c', file, '--use-dynamic-base-id', '--concurrency', '1', '-l', 'error')
  child.stdout?.resume()
  await until(`the sidecar of ${pod}`, () => isReady(admin), 60_000)
  return child.pid as number
}

function isReady (socketPath: string): Promise<boolean> {
  return new Promise(resolve => {
    request({ socketPath, path: '/ready', agent: false }, response => {
      response.resume()
      resolve(response.statusCode === 200)
    }).on('error', () => resolve(false)).end()
  })
}

function config ({ agentSocket, id, peer, peerAddress }: SidecarOptions, admin: string): object {
  const type = (name: string) => ({ '@type': `type.googleapis.com/envoy.extensions.${name}` })
  const agent = {
    resource_api_version: 'V3',
    api_config_source: {
      api_type: 'DELTA_GRPC', transport_api_version: 'V3',
      grpc_services: [{ envoy_grpc: { cluster_name: 'agent' }, initial_metadata: [{ key: 'workload.spiffe.io', value: 'true' }] }]
    }
  }
  const tls = (side: 'Downstream' | 'Upstream') => ({
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      ...type(`transport_sockets.tls.v3.${side}TlsContext`),
      ...side === 'Downstream' ? { require_client_certificate: true } : {},
      common_tls_context: {
        tls_params: {
          tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3',
          ecdh_curves: ['X25519MLKEM768', 'X25519', 'P-256']
        },
        tls_certificate_sds_secret_configs: [{ name: id, sds_config: agent }],
        combined_validation_context: {
          default_validation_context: { match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: peer } }] },
          validation_context_sds_secret_config: { name: 'ALL', sds_config: agent }
        }
      }
    }
  })
  const at = (address: string, port: number) => ({ socket_address: { address, port_value: port } })
  const tcp = (cluster: string) => ({
    name: 'envoy.filters.network.tcp_proxy', typed_config: { ...type('filters.network.tcp_proxy.v3.TcpProxy'), stat_prefix: 'tcp', cluster }
  })
  const http = (cluster: string) => ({
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      ...type('filters.network.http_connection_manager.v3.HttpConnectionManager'), stat_prefix: 'http',
      route_config: { virtual_hosts: [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster } }] }] },
      http_filters: [{ name: 'envoy.filters.http.router', typed_config: type('filters.http.router.v3.Router') }]
    }
  })
  const listener = (name: string, address: object, filter: object, rest = {}) =>
    ({ name, address, filter_chains: [{ filters: [filter], ...rest }] })
  const cluster = (name: string, address: object, rest = {}) => ({
    name, type: 'STATIC', connect_timeout: '3s',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] }, ...rest
  })
  return {
    node: { id, cluster: 'bench' },
    admin: { address: { pipe: { path: admin } } },
    static_resources: {
      listeners: [
        listener('http', at('127.0.0.1', sidecarPorts.http), http('peer-http')),
        listener('tcp', at('127.0.0.1', sidecarPorts.tcp), tcp('peer-tcp')),
        listener('in-http', at('0.0.0.0', sidecarPorts.inboundHttp), http('workload'), { transport_socket: tls('Downstream') }),
        listener('in-tcp', at('0.0.0.0', sidecarPorts.inboundTcp), tcp('workload'), { transport_socket: tls('Downstream') })
      ],
      clusters: [
        cluster('peer-http', at(peerAddress, sidecarPorts.inboundHttp), { transport_socket: tls('Upstream') }),
        cluster('peer-tcp', at(peerAddress, sidecarPorts.inboundTcp), { transport_socket: tls('Upstream') }),
        cluster('workload', at('127.0.0.1', 8080)),
        cluster('agent', { pipe: { path: agentSocket } }, {
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              ...type('upstreams.http.v3.HttpProtocolOptions'),
              explicit_http_config: { http2_protocol_options: {} }
            }
          }
        })
      ]
    }
  }
}

import { localAddress } from '../fakes/envoy.ts'

export interface MtlsConfigOptions {
  readonly agentSocket: string
  readonly api: 'GRPC' | 'DELTA_GRPC'
}

const tls = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3'
const http = 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'
const router = {
  name: 'envoy.filters.http.router',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' }
}

/** An Envoy that accepts mTLS on listener `in` and answers with what it saw of its peer. */
export function serverConfig (options: MtlsConfigOptions & { readonly certificate: string }): object {
  const route = {
    match: { prefix: '/' },
    direct_response: { status: 200, body: { inline_string: 'hello' } },
    response_headers_to_add: [
      { header: { key: 'x-peer-id', value: '%DOWNSTREAM_PEER_URI_SAN%' } },
      { header: { key: 'x-peer-serial', value: '%DOWNSTREAM_PEER_SERIAL%' } },
      { header: { key: 'x-tls-version', value: '%DOWNSTREAM_TLS_VERSION%' } }
    ]
  }
  const common = commonTlsContext(options, options.certificate)
  return {
    node: { id: 'server-node', cluster: 'test' },
    static_resources: {
      listeners: [{
        name: 'in',
        address: localAddress(0),
        filter_chains: [{
          filters: [httpFilter('in', { ...route })],
          transport_socket: {
            name: 'envoy.transport_sockets.tls',
            typed_config: { '@type': `${tls}.DownstreamTlsContext`, require_client_certificate: true, common_tls_context: common }
          }
        }]
      }],
      clusters: [agentCluster(options.agentSocket)]
    }
  }
}

/** An Envoy that takes plain HTTP on listener `out` and brings it over mTLS, a handshake for each request, to the one peer it expects. */
export function clientConfig (options: MtlsConfigOptions & { readonly upstreamPort: number, readonly expectedPeer: string }): object {
  const common = commonTlsContext(options, 'default', [{ san_type: 'URI', matcher: { exact: options.expectedPeer } }])
  return {
    node: { id: 'client-node', cluster: 'test' },
    static_resources: {
      listeners: [{
        name: 'out',
        address: localAddress(0),
        filter_chains: [{ filters: [httpFilter('out', { match: { prefix: '/' }, route: { cluster: 'remote' } })] }]
      }],
      clusters: [agentCluster(options.agentSocket), {
        name: 'remote',
        type: 'STATIC',
        // It counts until TLS is up, for which the other Envoy must get its turn.
        connect_timeout: '30s',
        typed_extension_protocol_options: httpOptions({ common_http_protocol_options: { max_requests_per_connection: 1 } }),
        load_assignment: endpointAt('remote', localAddress(options.upstreamPort)),
        transport_socket: {
          name: 'envoy.transport_sockets.tls',
          typed_config: { '@type': `${tls}.UpstreamTlsContext`, common_tls_context: common }
        }
      }]
    }
  }
}

function commonTlsContext ({ api }: MtlsConfigOptions, certificate: string, peers: readonly object[] = []): object {
  const sdsConfig = {
    resource_api_version: 'V3',
    // It waits however long an agent needs to start here.
    initial_fetch_timeout: '0s',
    api_config_source: {
      api_type: api,
      transport_api_version: 'V3',
      grpc_services: [{
        envoy_grpc: { cluster_name: 'agent', retry_policy: { retry_back_off: { base_interval: '0.05s', max_interval: '0.2s' } } }
      }]
    }
  }
  return {
    tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
    tls_certificate_sds_secret_configs: [{ name: certificate, sds_config: sdsConfig }],
    combined_validation_context: {
      default_validation_context: { match_typed_subject_alt_names: peers },
      validation_context_sds_secret_config: { name: 'ALL', sds_config: sdsConfig }
    }
  }
}

function agentCluster (path: string): object {
  return {
    name: 'agent',
    type: 'STATIC',
    connect_timeout: '30s',
    typed_extension_protocol_options: httpOptions({}, { http2_protocol_options: {} }),
    load_assignment: endpointAt('agent', { pipe: { path } })
  }
}

function httpOptions (options: object, explicit: object = { http_protocol_options: {} }): object {
  const name = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'
  return { [name]: { '@type': `type.googleapis.com/${name}`, ...options, explicit_http_config: explicit } }
}

function endpointAt (cluster: string, address: object): object {
  return { cluster_name: cluster, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] }
}

function httpFilter (name: string, route: object): object {
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: {
      '@type': http,
      stat_prefix: name,
      route_config: { virtual_hosts: [{ name: 'all', domains: ['*'], routes: [route] }] },
      http_filters: [router]
    }
  }
}

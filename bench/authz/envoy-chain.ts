import { compileRbac } from '../../src/authz/rbac/compile-rbac.ts'
import { readPolicies } from '../../src/authz/policy/read-policies.ts'
import { nameInChain, perRoute, placeholders } from '../../src/authz/rbac/rbac-filter.ts'
import { reportedHeaders, reportTag } from '../../src/mesh/decisions/report-form.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { asJson } from '../../src/authz/rbac/as-json.ts'
import type { TestAuthority } from '../../test/fakes/authority.ts'
import { localAddress } from '../../test/fakes/envoy.ts'
import { asAssay, type BenchCase } from './cases.ts'
import type { Where } from './check-client.ts'

/** How requests are decided about. */
export type Way = { readonly name: string } & ({ readonly filters: 'none' | 'rbac', readonly told?: Where } | { readonly ask: Where })

/** Stands for all workloads: answers each request as soon as it has it. */
export const workloadConfig = { static_resources: { listeners: [{
  name: 'workload', stat_prefix: 'workload', address: localAddress(0),
  filter_chains: [{ filters: [{
    name: 'http',
    typed_config: {
      '@type': typeOf('filters.network.http_connection_manager.v3.HttpConnectionManager'), stat_prefix: 'workload',
      route_config: { virtual_hosts: [{
        name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'done' } } }]
      }] },
      http_filters: [{ name: 'router', typed_config: { '@type': typeOf('filters.http.router.v3.Router') } }]
    }
  }] }]
}] } }

/**
 * One listener for each way, each with a chain for each workload, chosen by the name that the client asks for (`w0`, `w1`, …). Filters are
 * where the node's proxy has them. What is let in is passed on to the port.
 */
export async function envoyOf (
  one: BenchCase, ways: readonly Way[], { authority, workloadPort }: { readonly authority: TestAuthority, readonly workloadPort: number }
): Promise<{ readonly config: object, readonly destinations: readonly string[] }> {
  const destinations = [...new Set(one.rules.map(({ destination }) => destination))]
  const set = readPolicies([{ name: 'bench', text: asAssay(one) }])
  const svids = await Promise.all(destinations.map(id => authority.issue(id)))
  const trusted = encodePem('CERTIFICATE', authority.certificate.raw)
  const listener = (way: Way) => ({
    name: way.name, stat_prefix: 'bench', address: localAddress(0),
    listener_filters: [{ name: 'tls', typed_config: { '@type': typeOf('filters.listener.tls_inspector.v3.TlsInspector') } }],
    filter_chains: destinations.map((id, n) => ({
      filter_chain_match: { server_names: [`w${n}`] },
      transport_socket: {
        name: 'tls',
        typed_config: {
          '@type': typeOf('transport_sockets.tls.v3.DownstreamTlsContext'), require_client_certificate: true,
          common_tls_context: {
            tls_certificates: [{
              certificate_chain: { inline_string: (svids[n]?.chain ?? []).map(der => encodePem('CERTIFICATE', der)).join('') },
              private_key: { inline_string: encodePem('PRIVATE KEY', svids[n]?.privateKey ?? new Uint8Array()) }
            }],
            validation_context: { trusted_ca: { inline_string: trusted } }
          }
        }
      },
      filters: [peerInState, {
        name: 'http',
        typed_config: {
          '@type': typeOf('filters.network.http_connection_manager.v3.HttpConnectionManager'), stat_prefix: 'bench', normalize_path: true,
          route_config: { virtual_hosts: [{ name: 'all', domains: ['*'], ...routesOf(way, id) }] },
          http_filters: [
            ...filtersOf(way),
            { name: 'router', typed_config: { '@type': typeOf('filters.http.router.v3.Router') } }
          ],
          access_log: toldOf(way) === undefined ? [] : [report(clusterName(way))]
        }
      }]
    }))
  })
  const filtersOf = (way: Way): object[] => {
    if ('ask' in way) return [askFilter(clusterName(way))]
    return way.filters === 'none' ? [] : placeholders()
      .map(({ name, typedConfig, disabled }) => ({ name, typed_config: asJson(typedConfig), disabled }))
  }
  const routesOf = (way: Way, id: string): object => {
    const route = { match: { prefix: '/' }, route: { cluster: 'workload', timeout: '0s' } }
    if ('ask' in way || way.filters === 'none') return { routes: [route] }
    const { filters, external } = compileRbac(set, parseSpiffeId(id), { kind: 'http', oneName: true })
    if (external.length > 0) throw new Error('a rule is not for Envoy')
    const said = Object.entries(perRoute(filters)).map(([name, any]) => [name, asJson(any)] as const)
    const part = (isFederation: boolean) => ({
      typed_per_filter_config: Object.fromEntries(said.filter(([name]) => (name === nameInChain('federation')) === isFederation))
    })
    const isOwn = { key: peerKey, string_match: { prefix: 'spiffe://example.org/' } }
    return { ...part(false), routes: [{ ...route, match: { ...route.match, filter_state: [isOwn] } }, { ...route, ...part(true) }] }
  }
  return {
    destinations,
    config: { static_resources: {
      listeners: ways.map(listener),
      clusters: [
        clusterOf('workload', { host: '127.0.0.1', port: workloadPort }, { http_protocol_options: {} }),
        ...ways.flatMap(way => {
          const where = 'ask' in way ? way.ask : toldOf(way)
          return where === undefined ? [] : [clusterOf(clusterName(way), where, { http2_protocol_options: {} })]
        })
      ]
    } }
  }
}

const peerKey = 'bench.peer'

/** As the node's proxy keeps it for each connection, whether there are policies or not. */
const peerInState = {
  name: 'peer',
  typed_config: {
    '@type': typeOf('filters.network.set_filter_state.v3.Config'),
    on_downstream_tls_handshake: [{
      object_key: peerKey, factory_key: 'envoy.string',
      format_string: { text_format_source: { inline_string: '%DOWNSTREAM_PEER_URI_SAN%' } }
    }]
  }
}

/** Who is told of decisions. */
function toldOf (way: Way): Where | undefined { return 'told' in way ? way.told : undefined }

/** It is `:authority` of the calls, which not everybody lets have spaces. */
function clusterName ({ name }: Way): string { return name.replaceAll(/\W+/g, '-') }

function askFilter (cluster: string): object {
  return {
    name: 'ext_authz',
    typed_config: {
      '@type': typeOf('filters.http.ext_authz.v3.ExtAuthz'), transport_api_version: 'V3',
      grpc_service: { envoy_grpc: { cluster_name: cluster }, timeout: '10s' }
    }
  }
}

/** As the node's proxy reports what it decided, whether it let in or refused. */
function report (cluster: string): object {
  const tag = (name: string, value: string) => ({ tag: name, value })
  return {
    name: 'envoy.access_loggers.http_grpc',
    typed_config: {
      '@type': typeOf('access_loggers.grpc.v3.HttpGrpcAccessLogConfig'),
      common_config: {
        log_name: 'decisions', transport_api_version: 'V3', grpc_service: { envoy_grpc: { cluster_name: cluster } },
        buffer_flush_interval: '0.2s',
        custom_tags: [
          tag(reportTag.source, '%DOWNSTREAM_PEER_URI_SAN%'), tag(reportTag.sourceAddress, '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%'),
          tag(reportTag.destination, '%DOWNSTREAM_LOCAL_URI_SAN%')
        ]
      },
      additional_request_headers_to_log: reportedHeaders
    }
  }
}

/** @param protocol as Envoy names it */
function clusterOf (name: string, where: Where, protocol: object): object {
  const address = 'path' in where ? { pipe: { path: where.path } }
    : { socket_address: { address: where.host, port_value: where.port } }
  return {
    name, type: 'STATIC', connect_timeout: '2s',
    typed_extension_protocol_options: { 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': typeOf('upstreams.http.v3.HttpProtocolOptions'), explicit_http_config: protocol
    } },
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] }
  }
}

function typeOf (name: string): string { return `type.googleapis.com/envoy.extensions.${name}` }

import { compileRbac } from '../../src/authz/rbac/compile-rbac.ts'
import { readPolicies } from '../../src/authz/policy/read-policies.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { asJson } from '../../src/authz/rbac/as-json.ts'
import type { TestAuthority } from '../../test/fakes/authority.ts'
import { localAddress } from '../../test/fakes/envoy.ts'
import { asAssay, type BenchCase } from './cases.ts'
import type { Where } from './check-client.ts'

/** How requests are decided about. */
export type Way = { readonly name: string } & ({ readonly filters: 'none' | 'rbac' } | { readonly ask: Where })

/**
 * One listener for each way, each with a chain for each workload, chosen by the name that the client asks for (`w0`, `w1`, …). What is let
 * in is answered by Envoy itself, so that nothing but Envoy and whoever it asks is measured.
 */
export async function envoyOf (
  one: BenchCase, ways: readonly Way[], authority: TestAuthority
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
      filters: [{
        name: 'http',
        typed_config: {
          '@type': typeOf('filters.network.http_connection_manager.v3.HttpConnectionManager'), stat_prefix: 'bench', normalize_path: true,
          route_config: { virtual_hosts: [{
            name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, direct_response: { status: 200 } }]
          }] },
          http_filters: [
            ...filtersOf(way, id),
            { name: 'router', typed_config: { '@type': typeOf('filters.http.router.v3.Router') } }
          ]
        }
      }]
    }))
  })
  const filtersOf = (way: Way, id: string): object[] => {
    if ('ask' in way) return [askFilter(clusterName(way))]
    if (way.filters === 'none') return []
    const { filters, external } = compileRbac(set, parseSpiffeId(id), { kind: 'http' })
    if (external.length > 0) throw new Error('a rule is not for Envoy')
    return filters.map(({ name, typedConfig }) => ({ name, typed_config: asJson(typedConfig) }))
  }
  return {
    destinations,
    config: { static_resources: {
      listeners: ways.map(listener),
      clusters: ways.flatMap(way => 'ask' in way ? [clusterOf(clusterName(way), way.ask)] : [])
    } }
  }
}

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

function clusterOf (name: string, where: Where): object {
  const address = 'path' in where ? { pipe: { path: where.path } }
    : { socket_address: { address: where.host, port_value: where.port } }
  return {
    name, type: 'STATIC', connect_timeout: '2s',
    typed_extension_protocol_options: { 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': typeOf('upstreams.http.v3.HttpProtocolOptions'), explicit_http_config: { http2_protocol_options: {} }
    } },
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] }
  }
}

function typeOf (name: string): string { return `type.googleapis.com/envoy.extensions.${name}` }

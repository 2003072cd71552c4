import type { Extension } from '../../../src/authz/rbac/extension.ts'
import { asJson } from '../../../src/authz/rbac/as-json.ts'
import type { Formula } from '../../../src/authz/rbac/formula.ts'
import { namedAction } from '../../../src/authz/rbac/named-action.ts'
import { predicate } from '../../../src/authz/rbac/predicate.ts'
import { perRoute, placeholders, rbacExtension } from '../../../src/authz/rbac/rbac-filter.ts'
import { encodePem } from '../../../src/x509/pem.ts'
import { createTestAuthority, type TestAuthority, type TestSvid } from '../../fakes/authority.ts'
import { Envoy, localAddress } from '../../fakes/envoy.ts'

/** Filters of one policy set for one workload, for chains of HTTP and of bytes. */
export interface LabCase {
  readonly http: readonly Extension[]
  readonly network: readonly Extension[]
  /** Requests that somebody else would be asked about; none unless given. */
  readonly concerns?: Formula
}

const ports = ['a', 'b', 'c'] as const
export type LabPort = typeof ports[number]

/**
 * One real Envoy with all cases at once: on each HTTP port a request's header `x-case` names the case, on each TCP port the protocol
 * `case-N` that the client offers does. HTTP that is let in is redirected (307), and what would be asked about elsewhere (303); bytes are
 * sent back.
 */
export class RbacLab implements AsyncDisposable {
  readonly envoy: Envoy
  readonly authorities: Readonly<Record<string, TestAuthority>>
  readonly #svids = new Map<string, Promise<TestSvid>>()
  readonly #ports: ReadonlyMap<string, number>

  private constructor (envoy: Envoy, authorities: Record<string, TestAuthority>, known: ReadonlyMap<string, number>) {
    this.envoy = envoy
    this.authorities = authorities
    this.#ports = known
  }

  /**
   * @param portNumbers of `a`, `b`, `c`, for HTTP and TCP: cases may be about them
   * @param hostile more CA certificates that a trust domain publishes, DER
   */
  static async start (
    portNumbers: LabPorts, echoPort: number, cases: readonly LabCase[], hostile: Readonly<Record<string, readonly Uint8Array[]>> = {}
  ): Promise<RbacLab> {
    const authorities = { 'own.test': await createTestAuthority('own.test'), 'far.test': await createTestAuthority('far.test') }
    const bundles = Object.fromEntries(Object.entries(authorities).map(([name, { certificate }]) =>
      [name, [certificate.raw, ...hostile[name] ?? []].map(der => encodePem('CERTIFICATE', der)).join('')]))
    const server = await authorities['own.test'].issue('/server')
    const [tls, svidTls] = [tlsContext(server, bundles, false), tlsContext(server, bundles, true)]
    const envoy = await Envoy.start({
      static_resources: {
        listeners: [
          ...ports.map(name => httpListener(`http/${name}`, portNumbers.http[name], cases, tls, {})),
          httpListener('http/normal', 0, cases, svidTls, { normalize_path: true, merge_slashes: true }),
          ...ports.map(name => tcpListener(`tcp/${name}`, portNumbers.tcp[name], cases, tls))
        ],
        clusters: [{
          name: 'echo', type: 'STATIC', connect_timeout: '30s',
          load_assignment: { cluster_name: 'echo', endpoints: [{ lb_endpoints: [{ endpoint: { address: localAddress(echoPort) } }] }] }
        }]
      }
    }, { logLevel: 'warning' })
    try {
      await envoy.ready()
      const known = await Promise.all(['http/a', 'http/b', 'http/c', 'http/normal', 'tcp/a', 'tcp/b', 'tcp/c']
        .map(async name => [name, await envoy.listenerPort(name) ?? 0] as const))
      return new RbacLab(envoy, authorities, new Map(known))
    } catch (error) {
      await envoy[Symbol.asyncDispose]()
      throw new Error(envoy.log.slice(0, 4_000), { cause: error })
    }
  }

  port (listener: string): number { return this.#ports.get(listener) ?? 0 }

  svid (id: string): Promise<TestSvid> {
    const known = this.#svids.get(id)
    if (known !== undefined) return known
    const authority = this.authorities[id.split('/')[2] ?? ''] as TestAuthority
    const made = authority.issue(id)
    this.#svids.set(id, made)
    return made
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.envoy[Symbol.asyncDispose]() }
}

export interface LabPorts { readonly http: Readonly<Record<LabPort, number>>, readonly tcp: Readonly<Record<LabPort, number>> }

/** @param asSvid by Envoy's SPIFFE validator, which lets nobody in who has no certificate */
function tlsContext ({ chain, privateKey }: TestSvid, bundles: Readonly<Record<string, string>>, asSvid: boolean): object {
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
      require_client_certificate: false,
      disable_stateless_session_resumption: true,
      disable_stateful_session_resumption: true,
      common_tls_context: {
        tls_certificates: [{
          certificate_chain: { inline_string: chain.map(der => encodePem('CERTIFICATE', der)).join('') },
          private_key: { inline_string: encodePem('PRIVATE KEY', privateKey) }
        }],
        validation_context: asSvid ? {
          custom_validator_config: {
            name: 'envoy.tls.cert_validator.spiffe',
            typed_config: {
              '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig',
              trust_domains: Object.entries(bundles).map(([name, bundle]) => ({ name, trust_bundle: { inline_string: bundle } }))
            }
          }
        } : { trusted_ca: { inline_string: Object.values(bundles).join('') } }
      }
    }
  }
}

function httpListener (name: string, port: number, cases: readonly LabCase[], tls: object, options: object): object {
  const route = (filters: readonly Extension[], response_code = 'TEMPORARY_REDIRECT') => ({
    match: { prefix: '/' },
    redirect: { https_redirect: true, response_code },
    typed_per_filter_config: Object.fromEntries(Object.entries(perRoute(filters)).map(([key, any]) => [key, asJson(any)]))
  })
  const action = (route: object) => ({ action: { name: 'route', typed_config: { '@type': routeType, ...route } } })
  const divided = ({ http, concerns = false }: LabCase) => concerns === false ? action(route(http))
    : concerns === true ? action(route([], 'SEE_OTHER')) : { matcher: {
      matcher_list: { matchers: [{ predicate: predicateAsJson(concerns), on_match: action(route([], 'SEE_OTHER')) }] },
      on_no_match: action(route(http))
    } }
  return {
    name, stat_prefix: 'lab', address: localAddress(port),
    listener_filters: [inspector],
    filter_chains: [{
      transport_socket: tls,
      filters: [peerInState, {
        name: 'http',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
          stat_prefix: 'lab', ...options,
          forward_client_cert_details: 'SANITIZE_SET', set_current_client_cert_details: { uri: true },
          access_log: [{
            name: 'stderr',
            typed_config: {
              '@type': 'type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog',
              log_format: { text_format_source: { inline_string:
                'LAB %REQ(X-CASE)% %REQ(:PATH)% %DYNAMIC_METADATA(envoy.filters.http.rbac)% %DYNAMIC_METADATA(envoy.common)%\n' } }
            },
            filter: { header_filter: { header: { name: 'x-log', present_match: true } } }
          }],
          // Who refused, in the answer.
          local_reply_config: { body_format: { text_format_source: { inline_string: '%RESPONSE_CODE_DETAILS%' } } },
          route_config: { virtual_hosts: [{
            name: 'all', domains: ['*'],
            matcher: { matcher_tree: {
              input: { name: 'case', typed_config: {
                '@type': 'type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput', header_name: 'x-case'
              } },
              exact_match_map: { map: {
                probe: action(route([])), unsaid: action({ ...route([]), typed_per_filter_config: {} }),
                ...Object.fromEntries(cases.map((one, i) => [String(i), divided(one)]))
              } }
            } }
          }] },
          http_filters: [
            ...placeholders().map(({ name, typedConfig, disabled }) => ({ name, typed_config: asJson(typedConfig), disabled })),
            { name: 'router', typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' } }
          ]
        }
      }]
    }]
  }
}

const routeType = 'type.googleapis.com/envoy.config.route.v3.Route'
const peerKey = 'lab.peer'

/** Where a choice of routes can look for the caller. */
const peerInState = {
  name: 'state',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config',
    on_downstream_tls_handshake: [{
      object_key: peerKey, factory_key: 'envoy.string', skip_if_empty: true,
      format_string: { text_format_source: { inline_string: '%DOWNSTREAM_PEER_URI_SAN%' }, omit_empty_values: true }
    }]
  }
}

function predicateAsJson (formula: Exclude<Formula, boolean>): object {
  const onMatch = { action: namedAction('any', 0) }
  const matcher = { matcherList: { matchers: [{ predicate: predicate(formula, { filterState: peerKey }), onMatch }] } }
  const { typedConfig } = rbacExtension({ name: 'allow', enforced: { matcher }, shadow: undefined }, 'http')
  const json = asJson(typedConfig) as { matcher: { matcherList: { matchers: [{ predicate: object }] } } }
  return json.matcher.matcherList.matchers[0].predicate
}

function tcpListener (name: string, port: number, cases: readonly LabCase[], tls: object): object {
  return {
    name, stat_prefix: 'lab', address: localAddress(port),
    listener_filters: [inspector],
    filter_chains: cases.map(({ network }, i) => ({
      filter_chain_match: { application_protocols: [`case-${i}`] },
      transport_socket: tls,
      filters: [
        ...network.map(filter => ({ name: filter.name, typed_config: asJson(filter.typedConfig) })),
        { name: 'tcp', typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',
          stat_prefix: 'lab', cluster: 'echo' } }
      ]
    }))
  }
}

const inspector = {
  name: 'envoy.filters.listener.tls_inspector',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector' }
}

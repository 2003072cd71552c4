import {
  Cluster, type ClusterInit, Cluster_DiscoveryType as Discovery, Cluster_LbPolicy as LbPolicy
} from '../../wire/generated/envoy-cluster.ts'
import { type BindConfigInit, SocketOption_SocketState as SocketState, type TransportSocketInit } from '../../wire/generated/envoy-core.ts'
import { Config as FilterStateAddress } from '../../wire/generated/envoy-filter-state-address.ts'
import { InternalUpstreamTransport } from '../../wire/generated/envoy-internal-upstream.ts'
import { RawBuffer } from '../../wire/generated/envoy-raw-buffer.ts'
import { UpstreamHttpProtocolOptions, type UpstreamHttpProtocolOptionsInit } from '../../wire/generated/envoy-upstream-http.ts'
import { hbonePort, type MeshPort, type MeshService, type MeshSettings, type MeshWorkload } from '../mesh-state.ts'
import { duration, extension, packed, structOf } from './any.ts'
import { httpLife } from './connection-life.ts'
import { constant, serviceCluster, tunnelledListener } from './names.ts'
import { type Resource, resource } from './resource.ts'
import { fromAgent, outboundTls } from './tls.ts'

/** Metadata key by which original_dst on an internal listener learns where a connection is meant to go. */
export const destinationMetadata = 'envoy.filters.listener.original_dst'
/** Chooses an endpoint's transport. */
export const transportMetadata = 'envoy.transport_socket_match'

const plain: TransportSocketInit = extension('envoy.transport_sockets.raw_buffer', RawBuffer, {})

/**
 * A connection to a workload on which nothing comes. Shorter than what common servers allow (Node's: 5 s): a request that is sent as they
 * end one is lost, and a new connection inside of the node costs next to nothing.
 */
const keptForWorkloadSeconds = 4

/** Endpoints of a pool are few; connections through it may be many. */
const circuitBreakers = {
  thresholds: [{
    maxConnections: { value: 100_000 }, maxPendingRequests: { value: 100_000 }, maxRequests: { value: 100_000 },
    maxRetries: { value: 1_000 }
  }]
}

/** The same on every node. */
export function constantClusters (settings: MeshSettings): Resource[] {
  return [
    cluster(constant.tunnels, {
      ...toOriginalDestination,
      originalDstLbConfig: { upstreamPortOverride: { value: hbonePort } },
      typedExtensionProtocolOptions: http({
        explicitHttpConfig: {
          // A peer that vanished without a word is found out by pings.
          http2ProtocolOptions: {
            allowConnect: true,
            connectionKeepalive: { interval: duration(5), timeout: duration(2), connectionIdleInterval: duration(1) }
          }
        },
        commonHttpProtocolOptions: { ...httpLife(settings.connectionLifeSeconds / 2), idleTimeout: duration(60) }
      }),
      transportSocket: outboundTls(['h2'])
    }),
    cluster(constant.direct, { ...toOriginalDestination, transportSocket: outboundTls([]) }),
    cluster(constant.tunnelled, {
      ...toOriginalDestination,
      originalDstLbConfig: { useHttpHeader: true, httpHeaderName: ':authority' },
      upstreamBindConfig: inNamespace(settings)
    }),
    cluster(constant.workload, {
      ...toOriginalDestination,
      upstreamBindConfig: inNamespace(settings),
      typedExtensionProtocolOptions: http({
        useDownstreamProtocolConfig: { httpProtocolOptions: {}, http2ProtocolOptions: {} },
        commonHttpProtocolOptions: { idleTimeout: duration(keptForWorkloadSeconds) }
      })
    }),
    cluster(constant.passthrough, { ...toOriginalDestination, upstreamBindConfig: inNamespace(settings) }),
    toListener(constant.http),
    toAgent(constant.authorization, settings.authorizationSocketPath),
    ...settings.reports === undefined ? [] : [toAgent(constant.reports, settings.reports.socketPath)]
  ]
}

/** Of the same Envoy, by its name. */
function toListener (name: string): Resource {
  return cluster(name, {
    type: Discovery.STATIC,
    connectTimeout: duration(2),
    circuitBreakers,
    transportSocket: internal([]),
    loadAssignment: {
      clusterName: name,
      endpoints: [{ lbEndpoints: [{ endpoint: { address: { envoyInternalAddress: { serverListenerName: name } } } }] }]
    }
  })
}

/** To the chains that decide about the streams of tunnels to one workload. */
export function tunnelledClusterOf (workload: MeshWorkload): Resource { return toListener(tunnelledListener(workload)) }

/** gRPC at one of the agent's sockets. */
function toAgent (name: string, path: string): Resource {
  return cluster(name, {
    type: Discovery.STATIC,
    connectTimeout: duration(0.5),
    circuitBreakers,
    typedExtensionProtocolOptions: http({ explicitHttpConfig: { http2ProtocolOptions: {} } }),
    loadAssignment: {
      clusterName: name,
      endpoints: [{ lbEndpoints: [{ endpoint: { address: { pipe: { path } } } }] }]
    }
  })
}

/** The endpoints of a service's port, those that answer first: each is asked by TCP whether its proxy lives. */
export function serviceClusterOf (service: MeshService, port: MeshPort, settings: MeshSettings): Resource {
  const name = serviceCluster(service, port)
  return cluster(name, {
    type: Discovery.EDS,
    connectTimeout: duration(3),
    edsClusterConfig: { edsConfig: fromAgent },
    lbPolicy: LbPolicy.LEAST_REQUEST,
    // Where none answers in time, this node may be too busy to ask: then they are tried all the same, and nobody is worse off.
    commonLbConfig: { healthyPanicThreshold: { value: 1 } },
    healthChecks: [{
      // Envoy goes by the third and fourth until a first connection was made. The first look of an Envoy that starts is before its own
      // listeners are open: the next one must come soon.
      timeout: duration(1), interval: duration(5), noTrafficInterval: duration(0.5), noTrafficHealthyInterval: duration(15),
      unhealthyInterval: duration(2),
      intervalJitterPercent: 20, unhealthyThreshold: { value: 2 }, healthyThreshold: { value: 1 },
      tcpHealthCheck: {},
      transportSocketMatchCriteria: structOf({ transport: 'plain' })
    }],
    // Between two looks: who fails twice is left out for a while, as long as others are left.
    outlierDetection: {
      splitExternalLocalOriginErrors: true,
      consecutiveLocalOriginFailure: { value: 2 },
      enforcingConsecutiveLocalOriginFailure: { value: 100 },
      baseEjectionTime: duration(5), maxEjectionPercent: { value: 50 }
    },
    circuitBreakers,
    ...port.protocol === 'tcp' ? {} : { typedExtensionProtocolOptions: http(httpVersion(port, settings)) },
    transportSocketMatches: [
      { name: 'plain', match: structOf({ transport: 'plain' }), transportSocket: plain },
      { name: 'mtls', match: structOf({ transport: 'mtls' }), transportSocket: outboundTls(alpnOf(port)) }
    ],
    transportSocket: internal([destinationMetadata])
  })
}

function alpnOf ({ protocol }: MeshPort): string[] { return protocol === 'tcp' ? [] : protocol === 'http' ? ['http/1.1'] : ['h2'] }

/**
 * HTTP/1.1 stays so on its way: a WebSocket's upgrade, among others, is of one version. A connection in a tunnel ends before the tunnels'
 * connection, and that before the other side would end it: who calls lets go first, between two requests.
 */
function httpVersion ({ protocol }: MeshPort, { connectionLifeSeconds }: MeshSettings): UpstreamHttpProtocolOptionsInit {
  const timeouts = {
    commonHttpProtocolOptions: { ...httpLife(connectionLifeSeconds / 4), idleTimeout: duration(60) }
  }
  if (protocol !== 'http') return { ...timeouts, explicitHttpConfig: { http2ProtocolOptions: {} } }
  return { ...timeouts, useDownstreamProtocolConfig: { httpProtocolOptions: {}, http2ProtocolOptions: {} } }
}

const toOriginalDestination: ClusterInit = {
  type: Discovery.ORIGINAL_DST,
  lbPolicy: LbPolicy.CLUSTER_PROVIDED,
  connectTimeout: duration(3),
  circuitBreakers
}

/** As the workload itself would, and marked so that its own redirection lets it through. */
function inNamespace ({ mark }: MeshSettings): BindConfigInit {
  return {
    sourceAddress: { address: '0.0.0.0', portValue: 0 },
    extraSourceAddresses: [{ address: { address: '::', portValue: 0 } }],
    socketOptions: [{ description: 'SO_MARK', level: 1, name: 36, intValue: mark, state: SocketState.STATE_PREBIND }],
    localAddressSelector: extension('envoy.upstream.local_address_selector.filter_state_override', FilterStateAddress, {})
  }
}

/** To a listener of the same Envoy, with what the connection's filter state says and the endpoint's metadata under these keys. */
function internal (metadata: readonly string[]): TransportSocketInit {
  return extension('envoy.transport_sockets.internal_upstream', InternalUpstreamTransport, {
    passthroughMetadata: metadata.map(name => ({ name, kind: { host: {} } })),
    transportSocket: plain
  })
}

function http (init: UpstreamHttpProtocolOptionsInit): NonNullable<ClusterInit['typedExtensionProtocolOptions']> {
  return { 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': packed(UpstreamHttpProtocolOptions, init) }
}

function cluster (name: string, init: ClusterInit): Resource { return resource(Cluster, name, { name, ...init }) }

import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { type FilterChainInit, type FilterInit, Listener } from '../../wire/generated/envoy-listener.ts'
import { TrafficDirection } from '../../wire/generated/envoy-core.ts'
import { PreviousHostsPredicate } from '../../wire/generated/envoy-previous-hosts.ts'
import type { FilterStateValueInit } from '../../wire/generated/envoy-filter-state-value.ts'
import type { RetryPolicyInit } from '../../wire/generated/envoy-route.ts'
import type { MeshEndpoint, MeshPort, MeshService, MeshSettings, MeshState, MeshWorkload } from '../mesh-state.ts'
import { boundAt, type BoundAt, boundAtHost, only } from './addresses.ts'
import { extension } from './any.ts'
import { httpLife, tcpLife } from './connection-life.ts'
import { expectedPeersState, identityState, setFilterState, workloadState } from './filter-state.ts'
import { accessLog, httpConnectionManager, originalDestination, router, strictHttp, tcpProxy } from './filters.ts'
import { constant, hostListener, localHostListener, localListener, outboundListener, serviceCluster } from './names.ts'
import { type Resource, resource } from './resource.ts'
import { traced } from './tracing.ts'
import { changesNothing } from './workload-routes.ts'

/** Where connections begin, and whose they are. */
interface Source {
  /** Name of the listener for all that is redirected. */
  readonly listener: string
  localListener (service: MeshService, port: MeshPort): string
  /** Gives the name of the secret: a SPIFFE ID, or a format that names each connection. */
  readonly secretName: string
  /** `undefined`: it differs from connection to connection. */
  readonly id: SpiffeId | undefined
  boundAt (port: number): BoundAt
  /** Of connections that leave as they came. */
  readonly namespace: readonly FilterStateValueInit[]
}

/**
 * What a workload sends: a listener inside its namespace for all that is redirected there, and one for each service with a local port.
 * Who listens where decides whose identity a connection carries; no packet says it.
 */
export function outboundListeners (workload: MeshWorkload, state: MeshState, settings: MeshSettings): Resource[] {
  return listenersFor({
    listener: outboundListener(workload),
    localListener: (service, port) => localListener(workload, service, port),
    secretName: workload.id,
    id: workload.id,
    boundAt: port => boundAt(workload, 'loopback', port),
    namespace: workloadState(workload.uid, workload.netnsPath)
  }, state, settings)
}

/** What processes of the host itself send: whose a connection is, the agent finds out when the proxy asks for its secret. */
export function hostListeners (state: MeshState, settings: MeshSettings): Resource[] {
  const { connectionName } = settings
  if (connectionName === undefined) return []
  return listenersFor({
    listener: hostListener,
    localListener: localHostListener,
    secretName: connectionName,
    id: undefined,
    boundAt: port => boundAtHost(port, settings.hostIpv6 ?? false),
    namespace: []
  }, state, settings)
}

function listenersFor (source: Source, { services, endpoints }: MeshState, settings: MeshSettings): Resource[] {
  const chains = [
    ...services.flatMap(service => service.address === undefined ? [] : service.ports.map(port => ({
      name: serviceCluster(service, port),
      filterChainMatch: { prefixRanges: [only(service.address as string)], destinationPort: { value: port.port } },
      filters: toService(source, service, port, settings)
    }))),
    ...directChains(source, endpoints, settings)
  ]
  const redirected = resource(Listener, source.listener, {
    name: source.listener,
    statPrefix: 'outbound',
    trafficDirection: TrafficDirection.OUTBOUND,
    ...source.boundAt(settings.outboundPort),
    listenerFilters: [originalDestination],
    filterChains: chains,
    ...settings.unknownDestinations === 'passthrough' ? { defaultFilterChain: passthrough(source, settings) } : {}
  })
  const local = services.flatMap(service => service.ports.filter(port => port.localPort !== undefined).map(port => {
    const name = source.localListener(service, port)
    return resource(Listener, name, {
      name,
      statPrefix: 'outbound_local',
      trafficDirection: TrafficDirection.OUTBOUND,
      ...source.boundAt(port.localPort as number),
      filterChains: [{ name: serviceCluster(service, port), filters: toService(source, service, port, settings) }]
    })
  }))
  // Without any chain Envoy refuses the listener; that nothing listens is the same to the workload.
  return chains.length === 0 && settings.unknownDestinations === 'refuse' ? local : [redirected, ...local]
}

function toService (source: Source, service: MeshService, port: MeshPort, settings: MeshSettings): FilterInit[] {
  const cluster = serviceCluster(service, port)
  const state = setFilterState([identityState(source.secretName), expectedPeersState(service.spiffeIds)])
  if (port.protocol === 'tcp') return [state, proxied(source, cluster, service.name, settings)]
  return [state, httpConnectionManager({
    ...strictHttp,
    statPrefix: 'outbound_http',
    commonHttpProtocolOptions: httpLife(settings.connectionLifeSeconds),
    routeConfig: {
      name: cluster,
      virtualHosts: [{
        name: cluster, domains: ['*'],
        routes: [
          {
            match: { prefix: '/', headers: [changesNothing] },
            route: { cluster, timeout: { seconds: 0 }, retryPolicy: elsewhere('connect-failure,refused-stream,reset') }
          },
          { match: { prefix: '/' }, route: { cluster, timeout: { seconds: 0 }, retryPolicy: elsewhere('connect-failure,refused-stream') } }
        ]
      }]
    },
    httpFilters: [router],
    ...traced(settings, { source: source.id, destination: service.spiffeIds.join(',') }),
    ...accessLog(settings, {
      direction: 'outbound', source: source.secretName, service: service.name, destination: '%UPSTREAM_HOST%', method: '%REQ(:METHOD)%',
      path: '%PATH(NQ)%', authority: '%REQ(:AUTHORITY)%', code: '%RESPONSE_CODE%', traceparent: '%REQ(TRACEPARENT)%',
      failure: '%UPSTREAM_TRANSPORT_FAILURE_REASON%'
    })
  })]
}

/**
 * Again, at another endpoint. A tunnel that cannot be made is a connection that was reset after the request was sent: for the proxy the
 * same as a workload that did the request and died. So only what changes nothing is done again then.
 */
function elsewhere (retryOn: string): RetryPolicyInit {
  return {
    retryOn,
    numRetries: { value: 2 },
    retryHostPredicate: [extension('envoy.retry_host_predicates.previous_hosts', PreviousHostsPredicate, {})],
    // The choice falls on the less busy of two, and nobody is less busy than who refuses at once: it has to be made many times.
    hostSelectionRetryMaxAttempts: 100
  }
}

function proxied (source: Source, cluster: string, service: string, settings: MeshSettings): FilterInit {
  return tcpProxy({
    statPrefix: 'outbound_tcp', cluster, maxConnectAttempts: { value: 3 }, ...tcpLife(settings.connectionLifeSeconds),
    ...accessLog(settings, {
      direction: 'outbound', source: source.secretName, service, destination: '%UPSTREAM_HOST%',
      failure: '%UPSTREAM_TRANSPORT_FAILURE_REASON%'
    })
  })
}

/** Workloads reached by their own addresses, whichever port: a chain for each identity and way. */
function directChains (source: Source, endpoints: readonly MeshEndpoint[], settings: MeshSettings): FilterChainInit[] {
  const byAddress = new Map(endpoints.filter(({ service }) => service === undefined).map(endpoint => [endpoint.address, endpoint]))
  const groups = Map.groupBy(byAddress.values(), ({ id, transport }) => `${transport}/${id}`)
  return [...groups].toSorted(([a], [b]) => a < b ? -1 : 1).map(([name, members]) => {
    const [{ id, transport }] = members as [MeshEndpoint, ...MeshEndpoint[]]
    const state = setFilterState([identityState(source.secretName), expectedPeersState([id])])
    const log = accessLog(settings, {
      direction: 'outbound', source: source.secretName, peer: '%UPSTREAM_PEER_URI_SAN%', destination: '%DOWNSTREAM_LOCAL_ADDRESS%',
      failure: '%UPSTREAM_TRANSPORT_FAILURE_REASON%'
    })
    const way = transport === 'hbone'
      ? { cluster: constant.tunnels, tunnelingConfig: { hostname: '%DOWNSTREAM_LOCAL_ADDRESS%' } }
      : { cluster: constant.direct }
    return {
      name,
      filterChainMatch: { prefixRanges: members.map(({ address }) => only(address)) },
      filters: [state, tcpProxy({ statPrefix: 'outbound_direct', ...way, ...tcpLife(settings.connectionLifeSeconds), ...log })]
    }
  })
}

/** To the rest of the world, as the workload itself would: from its namespace, without an identity. */
function passthrough (source: Source, settings: MeshSettings): FilterChainInit {
  return {
    name: constant.passthrough,
    filters: [
      ...source.namespace.length === 0 ? [] : [setFilterState(source.namespace)],
      tcpProxy({
        statPrefix: 'passthrough', cluster: constant.passthrough,
        ...accessLog(settings, { direction: 'passthrough', source: source.secretName, destination: '%DOWNSTREAM_LOCAL_ADDRESS%' })
      })
    ]
  }
}

import { celOfTunnel, celOfVerdict } from '../../authz/rbac/cel.ts'
import { hostAndPort } from '../../runtime/host-and-port.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { TrafficDirection } from '../../wire/generated/envoy-core.ts'
import {
  HttpConnectionManager_CodecType as CodecType, HttpConnectionManager_ForwardClientCertDetails as ForwardClientCert,
  type HttpConnectionManagerInit, type HttpFilterInit
} from '../../wire/generated/envoy-http-connection-manager.ts'
import { HttpRBAC as HttpRbac } from '../../wire/generated/envoy-http-rbac.ts'
import { Config as HttpSetFilterState } from '../../wire/generated/envoy-http-set-filter-state.ts'
import { type FilterChainInit, type FilterInit, Listener } from '../../wire/generated/envoy-listener.ts'
import { NetworkRBAC as NetworkRbac } from '../../wire/generated/envoy-network-rbac.ts'
import type { TcpProxyInit } from '../../wire/generated/envoy-tcp-proxy.ts'
import { hbonePort, type MeshSettings, type MeshState, type MeshWorkload, type Revoked } from '../mesh-state.ts'
import { type Access, accessTo } from '../access.ts'
import { type Authorization, authorizationOf } from './authorization.ts'
import type { Wire } from './ask-agent.ts'
import { boundAt } from './addresses.ts'
import { duration, extension } from './any.ts'
import { httpLife, tcpLife } from './connection-life.ts'
import { decisionReports } from './decision-reports.ts'
import { destinationState, key, localState, peerState, setFilterState, sourceState, workloadPool, workloadState } from './filter-state.ts'
import { accessLog, httpConnectionManager, originalDestination, router, strictHttp, tcpProxy, tlsInspector } from './filters.ts'
import { constant, inboundListener, tunnelledListener, tunnelListener } from './names.ts'
import { callersOfBytes, reachState, readsRequestsState, verdictStates } from './may-connect.ts'
import { denyPeers, httpRules, networkRules } from './rules.ts'
import { type Resource, resource } from './resource.ts'
import { traced } from './tracing.ts'
import { inboundTls } from './tls.ts'
import type { TrafficCounter } from './traffic-counters.ts'
import { workloadRoutes } from './workload-routes.ts'

/** Ports that are the proxy's own in each namespace: nobody may be sent there through it. */
function proxyPorts ({ outboundPort, inboundPort }: MeshSettings): number[] { return [outboundPort, inboundPort, hbonePort] }

/**
 * What comes to a workload: tunnels on the HBONE port, and whatever its namespace redirects.
 * @param epoch names chains of bytes that policies are about (see `ConnectionEpochs`); `undefined`: there are no policies
 */
export function inboundListeners (
  workload: MeshWorkload, state: MeshState, settings: MeshSettings, epoch: string | undefined
): Resource[] {
  const access = accessTo(workload, state.services, settings)
  const authorization = epoch === undefined ? undefined : { ...authorizationOf(workload), epoch }
  const guarded: Guarded = { workload, access, authorization, revoked: state.revoked, settings }
  return [tunnels(guarded), redirected(guarded), ...authorization === undefined ? [] : [tunnelled(guarded, authorization)]]
}

/** A workload, and who may get to it. */
interface Guarded {
  readonly workload: MeshWorkload
  readonly access: Access
  readonly authorization: Authorized | undefined
  readonly revoked: Revoked
  readonly settings: MeshSettings
}

interface Authorized extends Authorization { readonly epoch: string }

/** Another name makes it another chain, and ends the connections of the one before. */
function chainOfBytes (name: string, authorization: Authorized | undefined): string {
  return authorization === undefined ? name : `${name}/${authorization.epoch}`
}

function tunnels ({ workload, access, authorization, revoked, settings }: Guarded): Resource {
  const name = tunnelListener(workload)
  const routes = authorization === undefined
    ? [...httpAuthorities(workload, access).map(authority => tunnelTo(constant.http, authority)), tunnelTo(constant.tunnelled)]
    // A chain for each port decides about what is inside.
    : [tunnelTo(tunnelledListener(workload))]
  return resource(Listener, name, {
    name,
    statPrefix: 'inbound_tunnels',
    trafficDirection: TrafficDirection.INBOUND,
    ...boundAt(workload, 'anywhere', hbonePort),
    filterChains: [{
      name: 'hbone',
      transportSocket: inboundTls(workload.id, ['h2']),
      filters: [
        ...authorization === undefined ? known(workload)
          : [setFilterState([workloadPool(workload.uid), localState(workload.id), sourceState()], peerState())],
        ...denyPeers(revoked),
        httpConnectionManager({
          statPrefix: 'inbound_tunnels',
          codecType: CodecType.HTTP2,
          http2ProtocolOptions: { allowConnect: true },
          upgradeConfigs: [{ upgradeType: 'CONNECT' }],
          streamIdleTimeout: { seconds: 0 },
          commonHttpProtocolOptions: httpLife(settings.connectionLifeSeconds),
          routeConfig: {
            name: 'tunnels',
            virtualHosts: [{
              name: 'tunnels', domains: ['*'], routes
            }]
          },
          httpFilters: [
            extension('envoy.filters.http.rbac', HttpRbac, { rules: httpRules(workload, access, proxyPorts(settings)) }),
            destinationFromAuthority,
            ...authorization === undefined ? [] : [readsRequests(access), authorization.tunnel],
            router
          ],
          ...accessLog(settings, { ...inboundLog(workload.id), destination: '%REQ(:AUTHORITY)%', code: '%RESPONSE_CODE%', wire: 'hbone' },
            connectionsTo(workload.id, 'hbone'))
        })
      ]
    }]
  })
}

/** For who reads the tunnel's stream as HTTP: the address it is meant for. */
const destinationFromAuthority: HttpFilterInit = extension('envoy.filters.http.set_filter_state', HttpSetFilterState, {
  onRequestHeaders: destinationState('%REQ(:AUTHORITY)%')
})

/** For what policies say of tunnels: streams that are read as HTTP are theirs to decide about request by request. */
function readsRequests ({ ports }: Access): HttpFilterInit {
  const http = ports.filter(({ http }) => http).map(({ port }) => celOfTunnel.port(port))
  return extension('envoy.filters.http.set_filter_state', HttpSetFilterState, {
    onRequestHeaders: [readsRequestsState(http.length === 0 ? 'false' : http.join(' || '))]
  })
}

function tunnelTo (cluster: string, authority?: string): object {
  return {
    match: {
      connectMatcher: {},
      ...authority === undefined ? {} : { headers: [{ name: ':authority', stringMatch: { exact: authority } }] }
    },
    route: { cluster, timeout: { seconds: 0 }, upgradeConfigs: [{ upgradeType: 'CONNECT', connectConfig: {} }] }
  }
}

function httpAuthorities ({ addresses }: MeshWorkload, { ports }: Access): string[] {
  return ports.filter(({ http }) => http).flatMap(({ port }) => addresses.map(address => hostAndPort(address, port)))
}

function redirected (guarded: Guarded): Resource {
  const { workload, access, authorization, revoked, settings } = guarded
  const name = inboundListener(workload)
  const tls = inboundTls(workload.id, ['h2', 'http/1.1'])
  const rules = [...denyPeers(revoked), extension('envoy.filters.network.rbac', NetworkRbac, {
    statPrefix: 'inbound', rules: networkRules(access, proxyPorts(settings))
  })]
  const verdicts = verdictStates(celOfVerdict(callersOfBytes(access, revoked, proxyPorts(settings))), 'first')
  // Where there are policies they have the last word.
  const reach = setFilterState([workloadPool(workload.uid), localState(workload.id)], [
    ...peerState(), ...authorization === undefined ? reachState(verdicts, workload) : verdicts
  ])
  const httpPorts = access.ports.filter(({ http }) => http).map(({ port }) => port)
  const plain = access.plaintext === 'refuse' ? [] : [...httpPorts, undefined].map(port => plaintextChain(guarded, port))
  return resource(Listener, name, {
    name,
    statPrefix: 'inbound',
    trafficDirection: TrafficDirection.INBOUND,
    ...boundAt(workload, 'anywhere', settings.inboundPort),
    listenerFilters: [originalDestination, tlsInspector],
    // A protocol in which the server speaks first says nothing to be inspected.
    listenerFiltersTimeout: duration(1),
    continueOnListenerFiltersTimeout: access.plaintext === 'permit',
    filterChains: [
      ...httpPorts.map(port => ({
        name: `http/${port}`,
        filterChainMatch: { transportProtocol: 'tls', destinationPort: { value: port } },
        transportSocket: tls,
        filters: [
          ...known(workload), ...rules, toHttpWorkload(workload.id, settings, mtlsRequests(workload.id), authorization?.http('direct'))
        ]
      })),
      {
        name: chainOfBytes('tcp', authorization),
        filterChainMatch: { transportProtocol: 'tls' },
        transportSocket: tls,
        filters: [reach, ...rules, ...authorization?.network('direct') ?? [], tcpProxy({
          statPrefix: 'inbound_tcp', cluster: constant.workload, ...onceKnown, ...tcpLife(settings.connectionLifeSeconds),
          ...accessLog(settings, { ...inboundLog(workload.id), ...bytesLog, destination: '%DOWNSTREAM_LOCAL_ADDRESS%', wire: 'mtls' },
            connectionsTo(workload.id, 'mtls'), authorization && decisionReports(settings, 'network'))
        })]
      },
      ...plain
    ]
  })
}

/** The peer's ID reaches the workload in a header that only this proxy can have written. */
function toHttpWorkload (id: SpiffeId, settings: MeshSettings, [log, counter]: Logged, requests?: HttpConnectionManagerInit): FilterInit {
  return httpConnectionManager({
    ...strictHttp,
    statPrefix: 'inbound_http',
    forwardClientCertDetails: ForwardClientCert.SANITIZE_SET,
    setCurrentClientCertDetails: { uri: true },
    commonHttpProtocolOptions: httpLife(settings.connectionLifeSeconds),
    ...requests ?? unruled('direct'),
    ...traced(settings, { source: '%DOWNSTREAM_PEER_URI_SAN%', destination: id }),
    ...accessLog(settings, { ...log, ...httpLog }, counter, requests && decisionReports(settings, 'http'))
  })
}

/** `ON_DOWNSTREAM_TLS_HANDSHAKE`. */
const onHandshake = 2
/** Nothing is connected before the handshake has told who calls. */
const onceKnown: TcpProxyInit = { upstreamConnectMode: onHandshake, maxEarlyDataBytes: { value: 65_536 } }

/** Where there are no policies. */
function unruled (wire: Wire): HttpConnectionManagerInit { return { routeConfig: workloadRoutes('inbound', wire), httpFilters: [router] } }

/** Reads streams of tunnels whose port speaks HTTP; the same for all workloads, which the streams name. */
export function tunnelledHttpListener (settings: MeshSettings): Resource {
  return resource(Listener, constant.http, {
    name: constant.http,
    statPrefix: 'inbound_tunnelled_http',
    trafficDirection: TrafficDirection.INBOUND,
    internalListener: {},
    listenerFilters: [originalDestination],
    filterChains: [{ filters: [tunnelledToHttpWorkload(settings)] }]
  })
}

function tunnelledToHttpWorkload (settings: MeshSettings, requests?: HttpConnectionManagerInit): FilterInit {
  return httpConnectionManager({
    ...strictHttp,
    statPrefix: 'inbound_tunnelled_http',
    forwardClientCertDetails: ForwardClientCert.SANITIZE,
    ...requests ?? unruled('tunnelled'),
    ...traced(settings, { source: tunnelLog.peer, destination: `%FILTER_STATE(${key.local}:PLAIN)%` }),
    ...accessLog(settings, { ...tunnelLog, ...httpLog }, {
      name: 'requests',
      labels: { source: tunnelLog.peer, destination: `%FILTER_STATE(${key.local}:PLAIN)%`, wire: 'hbone', code: '%RESPONSE_CODE%' }
    }, requests && decisionReports(settings, 'http'))
  })
}

const tunnelLog = { direction: 'inbound', peer: `%FILTER_STATE(${key.peer}:PLAIN)%`, details: '%RESPONSE_CODE_DETAILS%', wire: 'hbone' }

/**
 * Streams of tunnels to a workload that policies are about: the same chains as for what comes without a tunnel, in which the tunnel's
 * end said who calls.
 */
function tunnelled ({ workload, access, settings }: Guarded, authorization: Authorized): Resource {
  const name = tunnelledListener(workload)
  return resource(Listener, name, {
    name,
    statPrefix: 'inbound_tunnelled',
    trafficDirection: TrafficDirection.INBOUND,
    internalListener: {},
    listenerFilters: [originalDestination],
    filterChains: [
      ...access.ports.filter(({ http }) => http).map(({ port }) => ({
        name: `http/${port}`,
        filterChainMatch: { destinationPort: { value: port } },
        filters: [tunnelledToHttpWorkload(settings, authorization.http('tunnelled'))]
      })),
      {
        name: chainOfBytes('tcp', authorization),
        filters: [...authorization.network('tunnelled'), tcpProxy({
          statPrefix: 'inbound_tunnelled_tcp', cluster: constant.workload,
          ...accessLog(settings, { ...tunnelLog, ...bytesLog, local: workload.id, destination: '%DOWNSTREAM_LOCAL_ADDRESS%' },
            undefined, decisionReports(settings, 'network'))
        })]
      }
    ]
  })
}

/** @param port for which there are chains of other protocols: Envoy looks for a port's own chains first, and no further */
function plaintextChain ({ workload, access, authorization, settings }: Guarded, port: number | undefined): FilterChainInit {
  const logged = plaintextTo(workload.id)
  const bytes = () => tcpProxy({
    statPrefix: 'inbound_plaintext', cluster: constant.workload, ...tcpLife(settings.connectionLifeSeconds),
    ...accessLog(settings, ...logged, authorization && decisionReports(settings, 'network'))
  })
  const permitted = (): FilterInit[] => port !== undefined && authorization !== undefined
    ? [toHttpWorkload(workload.id, settings, logged, authorization.http('plaintext'))]
    : [...authorization?.network('plaintext') ?? [], bytes()]
  const filters = access.plaintext === 'permit' ? permitted() : [
    httpConnectionManager({
      statPrefix: 'inbound_plaintext',
      routeConfig: {
        name: 'redirect',
        virtualHosts: [{ name: 'redirect', domains: ['*'], routes: [{ match: { prefix: '/' }, redirect: { httpsRedirect: true } }] }]
      },
      httpFilters: [router],
      ...accessLog(settings, ...logged)
    })
  ]
  // Where policies say what is reached, they do so alone.
  const state = access.plaintext === 'permit' && port === undefined && authorization !== undefined
    ? [workloadPool(workload.uid), localState(workload.id)]
    : [...workloadState(workload.uid, workload.netnsPath), localState(workload.id)]
  return {
    name: port === undefined ? chainOfBytes('plaintext', authorization) : `plaintext/${port}`,
    filterChainMatch: { transportProtocol: 'raw_buffer', ...port === undefined ? {} : { destinationPort: { value: port } } },
    filters: [setFilterState(state), ...filters]
  }
}

/** What every later filter, header and log relies on. */
function known (workload: MeshWorkload): FilterInit[] {
  return [setFilterState([...workloadState(workload.uid, workload.netnsPath), localState(workload.id)], peerState())]
}

const peerName = '%DOWNSTREAM_PEER_URI_SAN%'
/** `allowed`, or who refused with the handshake. */
const bytesLog = { verdict: `%FILTER_STATE(${key.verdict}:PLAIN)%` }
const httpLog = { method: '%REQ(:METHOD)%', path: '%PATH(NQ)%', code: '%RESPONSE_CODE%', traceparent: '%REQ(TRACEPARENT)%' }

/** What the access log says, and what is counted. */
type Logged = readonly [fields: Readonly<Record<string, string>>, counter: TrafficCounter]

function inboundLog (local: SpiffeId): Record<string, string> {
  return { direction: 'inbound', local, peer: peerName, details: '%RESPONSE_CODE_DETAILS%' }
}

function mtlsRequests (local: SpiffeId): Logged {
  return [{ ...inboundLog(local), wire: 'mtls' }, {
    name: 'requests', labels: { source: peerName, destination: local, wire: 'mtls', code: '%RESPONSE_CODE%' }
  }]
}

function connectionsTo (local: SpiffeId, wire: 'hbone' | 'mtls'): TrafficCounter {
  return { name: 'connections', labels: { source: peerName, destination: local, wire } }
}

function plaintextTo (local: SpiffeId): Logged {
  return [
    { direction: 'inbound', local, from: '%DOWNSTREAM_REMOTE_ADDRESS%', destination: '%DOWNSTREAM_LOCAL_ADDRESS%', wire: 'plaintext' },
    { name: 'plaintext', labels: { from: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%', destination: local } }
  ]
}

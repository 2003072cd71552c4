import { hostAndPort } from '../../runtime/host-and-port.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { TrafficDirection } from '../../wire/generated/envoy-core.ts'
import {
  HttpConnectionManager_CodecType as CodecType, HttpConnectionManager_ForwardClientCertDetails as ForwardClientCert, type HttpFilterInit
} from '../../wire/generated/envoy-http-connection-manager.ts'
import { HttpRBAC as HttpRbac } from '../../wire/generated/envoy-http-rbac.ts'
import { Config as HttpSetFilterState } from '../../wire/generated/envoy-http-set-filter-state.ts'
import { type FilterChainInit, type FilterInit, Listener } from '../../wire/generated/envoy-listener.ts'
import { NetworkRBAC as NetworkRbac } from '../../wire/generated/envoy-network-rbac.ts'
import { hbonePort, type MeshSettings, type MeshState, type MeshWorkload } from '../mesh-state.ts'
import { type Access, accessTo } from '../access.ts'
import { boundAt } from './addresses.ts'
import { duration, extension } from './any.ts'
import { destinationState, key, localState, peerState, setFilterState, workloadState } from './filter-state.ts'
import { accessLog, httpConnectionManager, originalDestination, router, setHeader, strictHttp, tcpProxy, tlsInspector } from './filters.ts'
import { constant, inboundListener, tunnelListener } from './names.ts'
import { denyPeers, httpRules, networkRules } from './rules.ts'
import { type Resource, resource } from './resource.ts'
import { traced } from './tracing.ts'
import { inboundTls } from './tls.ts'

/** Ports that are the proxy's own in each namespace: nobody may be sent there through it. */
export function proxyPorts ({ outboundPort, inboundPort }: MeshSettings): number[] { return [outboundPort, inboundPort, hbonePort] }

/** What comes to a workload: tunnels on the HBONE port, and whatever its namespace redirects. */
export function inboundListeners (workload: MeshWorkload, state: MeshState, settings: MeshSettings): Resource[] {
  const access = accessTo(workload, state.services, settings)
  return [tunnels(workload, access, state, settings), redirected(workload, access, state, settings)]
}

function tunnels (workload: MeshWorkload, access: Access, { revoked }: MeshState, settings: MeshSettings): Resource {
  const name = tunnelListener(workload)
  return resource(Listener, name, {
    name,
    statPrefix: 'inbound_tunnels',
    trafficDirection: TrafficDirection.INBOUND,
    ...boundAt(workload, 'anywhere', hbonePort),
    filterChains: [{
      name: 'hbone',
      transportSocket: inboundTls(workload.id, ['h2']),
      filters: [
        ...known(workload),
        ...denyPeers(revoked),
        httpConnectionManager({
          statPrefix: 'inbound_tunnels',
          codecType: CodecType.HTTP2,
          http2ProtocolOptions: { allowConnect: true },
          upgradeConfigs: [{ upgradeType: 'CONNECT' }],
          streamIdleTimeout: { seconds: 0 },
          commonHttpProtocolOptions: { maxConnectionDuration: duration(settings.connectionLifeSeconds) },
          routeConfig: {
            name: 'tunnels',
            virtualHosts: [{
              name: 'tunnels', domains: ['*'],
              routes: [
                ...httpAuthorities(workload, access).map(authority => tunnelTo(constant.http, authority)),
                tunnelTo(constant.tunnelled)
              ]
            }]
          },
          httpFilters: [
            extension('envoy.filters.http.rbac', HttpRbac, { rules: httpRules(workload, access, proxyPorts(settings)) }),
            destinationFromAuthority,
            router
          ],
          ...accessLog(settings, { ...inboundLog(workload.id), destination: '%REQ(:AUTHORITY)%', code: '%RESPONSE_CODE%', wire: 'hbone' })
        })
      ]
    }]
  })
}

/** For who reads the tunnel's stream as HTTP: the address it is meant for. */
const destinationFromAuthority: HttpFilterInit = extension('envoy.filters.http.set_filter_state', HttpSetFilterState, {
  onRequestHeaders: destinationState('%REQ(:AUTHORITY)%')
})

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

function redirected (workload: MeshWorkload, access: Access, { revoked }: MeshState, settings: MeshSettings): Resource {
  const name = inboundListener(workload)
  const tls = inboundTls(workload.id, ['h2', 'http/1.1'])
  const admitted = [...known(workload), ...denyPeers(revoked), extension('envoy.filters.network.rbac', NetworkRbac, {
    statPrefix: 'inbound', rules: networkRules(access, proxyPorts(settings))
  })]
  const httpPorts = access.ports.filter(({ http }) => http).map(({ port }) => port)
  const plain = access.plaintext === 'refuse' ? [] : [...httpPorts, undefined].map(port => plaintextChain(workload, access, port, settings))
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
        filters: [...admitted, toHttpWorkload(workload.id, settings)]
      })),
      {
        name: 'tcp',
        filterChainMatch: { transportProtocol: 'tls' },
        transportSocket: tls,
        filters: [...admitted, tcpProxy({
          statPrefix: 'inbound_tcp', cluster: constant.workload,
          ...accessLog(settings, { ...inboundLog(workload.id), destination: '%DOWNSTREAM_LOCAL_ADDRESS%', wire: 'mtls' })
        })]
      },
      ...plain
    ]
  })
}

/** The peer's ID reaches the workload in a header that only this proxy can have written. */
function toHttpWorkload (id: SpiffeId, settings: MeshSettings): FilterInit {
  return httpConnectionManager({
    ...strictHttp,
    statPrefix: 'inbound_http',
    forwardClientCertDetails: ForwardClientCert.SANITIZE_SET,
    setCurrentClientCertDetails: { uri: true },
    commonHttpProtocolOptions: { maxConnectionDuration: duration(settings.connectionLifeSeconds) },
    routeConfig: {
      name: 'inbound',
      virtualHosts: [{
        name: 'inbound',
        domains: ['*'],
        routes: [{ match: { prefix: '/' }, route: { cluster: constant.workload, timeout: { seconds: 0 } } }]
      }]
    },
    httpFilters: [router],
    ...traced(settings, { source: '%DOWNSTREAM_PEER_URI_SAN%', destination: id }),
    ...accessLog(settings, { ...inboundLog(id), ...httpLog, wire: 'mtls' })
  })
}

/** Reads streams of tunnels whose port speaks HTTP; the same for all workloads, which the streams name. */
export function tunnelledHttpListener (settings: MeshSettings): Resource {
  return resource(Listener, constant.http, {
    name: constant.http,
    statPrefix: 'inbound_tunnelled_http',
    trafficDirection: TrafficDirection.INBOUND,
    internalListener: {},
    listenerFilters: [originalDestination],
    filterChains: [{
      filters: [httpConnectionManager({
        ...strictHttp,
        statPrefix: 'inbound_tunnelled_http',
        forwardClientCertDetails: ForwardClientCert.SANITIZE,
        routeConfig: {
          name: 'inbound',
          virtualHosts: [{
            name: 'inbound', domains: ['*'],
            requestHeadersToAdd: [setHeader('x-forwarded-client-cert', `URI=%FILTER_STATE(${key.peer}:PLAIN)%`)],
            routes: [{ match: { prefix: '/' }, route: { cluster: constant.workload, timeout: { seconds: 0 } } }]
          }]
        },
        httpFilters: [router],
        ...traced(settings, { source: `%FILTER_STATE(${key.peer}:PLAIN)%`, destination: `%FILTER_STATE(${key.local}:PLAIN)%` }),
        ...accessLog(settings, { direction: 'inbound', peer: `%FILTER_STATE(${key.peer}:PLAIN)%`, ...httpLog, wire: 'hbone' })
      })]
    }]
  })
}

/** @param port for which there are chains of other protocols: Envoy looks for a port's own chains first, and no further */
function plaintextChain (
  workload: MeshWorkload, { plaintext }: Access, port: number | undefined, settings: MeshSettings
): FilterChainInit {
  const log = accessLog(settings, { direction: 'inbound', local: workload.id, from: '%DOWNSTREAM_REMOTE_ADDRESS%',
    destination: '%DOWNSTREAM_LOCAL_ADDRESS%', wire: 'plaintext' })
  const filter = plaintext === 'permit'
    ? tcpProxy({ statPrefix: 'inbound_plaintext', cluster: constant.workload, ...log })
    : httpConnectionManager({
      statPrefix: 'inbound_plaintext',
      routeConfig: {
        name: 'redirect',
        virtualHosts: [{ name: 'redirect', domains: ['*'], routes: [{ match: { prefix: '/' }, redirect: { httpsRedirect: true } }] }]
      },
      httpFilters: [router],
      ...log
    })
  return {
    name: port === undefined ? 'plaintext' : `plaintext/${port}`,
    filterChainMatch: { transportProtocol: 'raw_buffer', ...port === undefined ? {} : { destinationPort: { value: port } } },
    filters: [setFilterState(workloadState(workload.uid, workload.netnsPath)), filter]
  }
}

/** What every later filter, header and log relies on. */
function known (workload: MeshWorkload): FilterInit[] {
  return [setFilterState([...workloadState(workload.uid, workload.netnsPath), localState(workload.id)], peerState())]
}

const httpLog = { method: '%REQ(:METHOD)%', path: '%PATH(NQ)%', code: '%RESPONSE_CODE%', traceparent: '%REQ(TRACEPARENT)%' }

function inboundLog (local: SpiffeId): Record<string, string> {
  return { direction: 'inbound', local, peer: '%DOWNSTREAM_PEER_URI_SAN%', details: '%RESPONSE_CODE_DETAILS%' }
}

import { FileAccessLog } from '../../wire/generated/envoy-file-access-log.ts'
import { type AccessLogInit, ComparisonFilter_Op as Comparison } from '../../wire/generated/envoy-access-log.ts'
import {
  type HeaderValueOptionInit, HeaderValueOption_HeaderAppendAction as HeaderAppendAction
} from '../../wire/generated/envoy-core.ts'
import {
  HttpConnectionManager, type HttpConnectionManagerInit, type HttpFilterInit
} from '../../wire/generated/envoy-http-connection-manager.ts'
import type { FilterInit, ListenerFilterInit } from '../../wire/generated/envoy-listener.ts'
import { OriginalDst } from '../../wire/generated/envoy-original-dst.ts'
import { Router } from '../../wire/generated/envoy-router.ts'
import { TcpProxy, type TcpProxyInit } from '../../wire/generated/envoy-tcp-proxy.ts'
import { TlsInspector } from '../../wire/generated/envoy-tls-inspector.ts'
import type { MeshSettings } from '../mesh-state.ts'
import { extension, structOf } from './any.ts'
import { counted, type TrafficCounter } from './traffic-counters.ts'

export const originalDestination: ListenerFilterInit = extension('envoy.filters.listener.original_dst', OriginalDst, {})
export const tlsInspector: ListenerFilterInit = extension('envoy.filters.listener.tls_inspector', TlsInspector, {})
export const router: HttpFilterInit = extension('envoy.filters.http.router', Router, {})

export function tcpProxy (init: TcpProxyInit): FilterInit { return extension('envoy.filters.network.tcp_proxy', TcpProxy, init) }

export function httpConnectionManager (init: HttpConnectionManagerInit): FilterInit {
  return extension('envoy.filters.network.http_connection_manager', HttpConnectionManager, init)
}

/** Of HTTP that is passed on to a workload: what could be read in two ways is made one way first. */
export const strictHttp: HttpConnectionManagerInit = {
  normalizePath: { value: true },
  mergeSlashes: true,
  upgradeConfigs: [{ upgradeType: 'websocket' }],
  // Whoever is refused can ask why by the request's ID, also a caller that gave it none; what workloads answer stays theirs.
  localReplyConfig: {
    mappers: [{
      filter: { statusCodeFilter: { comparison: { op: Comparison.GE, value: { defaultValue: 400, runtimeKey: 'assay.local_reply' } } } },
      headersToAdd: [setHeader('x-request-id', '%REQ(X-REQUEST-ID)%')]
    }]
  },
  // Streams of gRPC and WebSocket may be silent for long; a connection has its own bound.
  streamIdleTimeout: { seconds: 0 }
}

export function setHeader (name: string, value: string): HeaderValueOptionInit {
  return { header: { key: name, value }, appendAction: HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD }
}

/**
 * One JSON object per connection or request, with who called whom.
 * @param counter counts it too; of callers with an identity only where that is asked for, as each of them costs memory and time
 * @param reports logs besides, also without a file
 */
export function accessLog (
  { accessLogPath, countsTraffic }: MeshSettings, fields: Readonly<Record<string, string>>, counter?: TrafficCounter,
  reports: readonly AccessLogInit[] = []
): { readonly accessLog: readonly AccessLogInit[] } {
  const counters = counter !== undefined && (countsTraffic || counter.name === 'plaintext') ? [counted(counter)] : []
  const others = [...counters, ...reports]
  if (accessLogPath === undefined) return { accessLog: others }
  const jsonFormat = structOf({
    time: '%START_TIME%', ...fields, flags: '%RESPONSE_FLAGS%', durationMs: '%DURATION%',
    bytesReceived: '%BYTES_RECEIVED%', bytesSent: '%BYTES_SENT%'
  })
  const file = extension('envoy.access_loggers.file', FileAccessLog, { path: accessLogPath, logFormat: { jsonFormat } })
  return { accessLog: [file, ...others] }
}

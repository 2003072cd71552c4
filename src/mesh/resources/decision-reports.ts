import type { AccessLogFilterInit, AccessLogInit } from '../../wire/generated/envoy-access-log.ts'
import { ApiVersion } from '../../wire/generated/envoy-core.ts'
import {
  type CommonGrpcAccessLogConfigInit, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig
} from '../../wire/generated/envoy-grpc-access-log.ts'
import { denied, rbacMetadata, refusingFilters, reportedHeaders, reportTag, verdictSuffix } from '../decisions/report-form.ts'
import type { MeshSettings } from '../mesh-state.ts'
import { duration, extension } from './any.ts'
import { key } from './filter-state.ts'
import { constant } from './names.ts'

/** How long a report may wait for others. */
const flushSeconds = 0.2

/**
 * Tells the agent what the policies' filters of a chain decided. All chains have the same configuration, and so each of Envoy's threads has
 * one stream for HTTP and one for the rest. Reports for which there is no room are dropped by Envoy and counted in its statistics
 * (`access_logs.grpc_access_log.logs_dropped`): no request waits for them.
 */
export function decisionReports ({ reports }: MeshSettings, kind: 'network' | 'http'): readonly AccessLogInit[] {
  if (reports === undefined) return []
  if (kind === 'network') {
    // Here Envoy's RBAC leaves its verdict where no filter of logs looks: the agent does.
    return [extension('envoy.access_loggers.tcp_grpc', TcpGrpcAccessLogConfig, { commonConfig })]
  }
  const log = extension('envoy.access_loggers.http_grpc', HttpGrpcAccessLogConfig, {
    commonConfig, additionalRequestHeadersToLog: reportedHeaders
  })
  return [reports.decisions === 'all' ? log : { ...log, filter: isRefused }]
}

const commonConfig: CommonGrpcAccessLogConfigInit = {
  logName: 'decisions',
  transportApiVersion: ApiVersion.V3,
  grpcService: { envoyGrpc: { clusterName: constant.reports } },
  bufferFlushInterval: duration(flushSeconds),
  customTags: [
    { tag: reportTag.source, value: `%FILTER_STATE(${key.peer}:PLAIN)%` },
    { tag: reportTag.sourceAddress, value: `%FILTER_STATE(${key.source}:PLAIN)%` },
    { tag: reportTag.destination, value: `%FILTER_STATE(${key.local}:PLAIN)%` },
    { tag: reportTag.verdict, value: `%FILTER_STATE(${key.verdict}:PLAIN)%` }
  ]
}

const isRefused: AccessLogFilterInit = {
  orFilter: {
    filters: refusingFilters.map(name => ({
      metadataFilter: {
        matcher: {
          filter: rbacMetadata, path: [{ key: `${name}${verdictSuffix.result}` }], value: { stringMatch: { exact: denied } }
        },
        matchIfKeyNotFound: { value: false }
      }
    }))
  }
}

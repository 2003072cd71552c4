import { isIP } from 'node:net'
import { Cluster, Cluster_DiscoveryType as Discovery } from '../../wire/generated/envoy-cluster.ts'
import { FractionalPercent_DenominatorType as Denominator } from '../../wire/generated/envoy-core.ts'
import type { HttpConnectionManagerInit } from '../../wire/generated/envoy-http-connection-manager.ts'
import { OpenTelemetryConfig } from '../../wire/generated/envoy-trace.ts'
import { ParentBasedSamplerConfig, TraceIdRatioBasedSamplerConfig } from '../../wire/generated/envoy-trace-samplers.ts'
import { UpstreamHttpProtocolOptions } from '../../wire/generated/envoy-upstream-http.ts'
import type { MeshSettings, Tracing } from '../mesh-state.ts'
import { socketAddress } from './addresses.ts'
import { duration, extension, packed } from './any.ts'
import { constant } from './names.ts'
import { type Resource, resource } from './resource.ts'

/** The attribute `service.name` of each span's resource: who made it. */
const serviceName = 'assay-node-proxy'

/** The two ends of a request; formats of the access log. `undefined`: this proxy does not know it. */
export interface SpanEnds { readonly source: string | undefined, readonly destination: string | undefined }

/**
 * One span per request, with both SPIFFE IDs. The trace goes on in the request's headers (W3C Trace Context): a request that has them
 * belongs to the trace they name and is sampled if it was.
 */
export function traced ({ tracing }: MeshSettings, { source, destination }: SpanEnds): Pick<HttpConnectionManagerInit, 'tracing'> {
  if (tracing === undefined) return {}
  const ends = { 'spiffe.source': source, 'spiffe.destination': destination }
  return {
    tracing: {
      customTags: Object.entries(ends).flatMap(([tag, value]) => value === undefined ? [] : [{ tag, value }]),
      provider: extension('envoy.tracers.opentelemetry', OpenTelemetryConfig, {
        serviceName, sampler: sampler(tracing), grpcService: { envoyGrpc: { clusterName: constant.spans }, timeout: duration(1) }
      })
    }
  }
}

/** Envoy's own percentages would cut off the traces that somebody else has begun. */
function sampler ({ samplingPercent }: Tracing): ReturnType<typeof extension> {
  const ratio = { numerator: Math.round(samplingPercent * 10_000), denominator: Denominator.MILLION }
  return extension('envoy.tracers.opentelemetry.samplers.parent_based', ParentBasedSamplerConfig, {
    wrappedSampler: extension('envoy.tracers.opentelemetry.samplers.trace_id_ratio_based', TraceIdRatioBasedSamplerConfig, {
      samplingPercentage: ratio
    })
  })
}

/** The way to the collector, from where Envoy runs; in the clear. */
export function tracingClusters ({ tracing }: MeshSettings): Resource[] {
  if (tracing === undefined) return []
  const { host, port } = tracing
  return [resource(Cluster, constant.spans, {
    name: constant.spans,
    type: isIP(host) === 0 ? Discovery.STRICT_DNS : Discovery.STATIC,
    connectTimeout: duration(1),
    typedExtensionProtocolOptions: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions':
        packed(UpstreamHttpProtocolOptions, { explicitHttpConfig: { http2ProtocolOptions: {} } })
    },
    loadAssignment: {
      clusterName: constant.spans, endpoints: [{ lbEndpoints: [{ endpoint: { address: socketAddress(host, port) } }] }]
    }
  })]
}

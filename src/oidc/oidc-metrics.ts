import type { Metrics } from '../runtime/metrics.ts'

/** What a provider counts; none of the labels comes from outside. */
export interface OidcMetrics {
  /** @param document `configuration`, `keys` or `none` */
  answered (document: string, status: number): void
  /** Closed, or turned away, before there was a request. */
  connectionRefused (reason: 'total' | 'address' | 'rate' | 'handshake' | 'malformed'): void
  sourceRead (outcome: 'taken' | 'failed'): void
}

export interface OidcGauges {
  readonly keys: () => number
  /** Seconds; -1 before the source was first heard. */
  readonly keysAgeSeconds: () => number
  readonly connections: () => number
  /** Unix time; 0 without TLS. */
  readonly certificateExpiresAt: () => number
}

/** @param metrics absent: nothing is counted */
export function oidcMetrics (metrics: Metrics | undefined, gauges: OidcGauges): OidcMetrics {
  if (metrics === undefined) return { answered () {}, connectionRefused () {}, sourceRead () {} }
  const answers = metrics.counter({ name: 'requests_total', help: 'Requests answered', labels: ['document', 'status'] })
  const refused = metrics.counter({ name: 'connections_refused_total', help: 'Connections closed before a request', labels: ['reason'] })
  const reads = metrics.counter({ name: 'source_reads_total', help: 'Answers of the source of keys', labels: ['outcome'] })
  metrics.gauge({ name: 'keys', help: 'Keys served', collect: gauges.keys })
  metrics.gauge({ name: 'keys_age_seconds', help: 'Since the source last confirmed the keys; -1: never', collect: gauges.keysAgeSeconds })
  metrics.gauge({ name: 'connections', help: 'Open connections', collect: gauges.connections })
  metrics.gauge({
    name: 'certificate_expiry_timestamp_seconds', help: 'When the serving certificate ends; 0 without TLS',
    collect: gauges.certificateExpiresAt
  })
  return {
    answered: (document, status) => answers.add(1, { document, status: String(status) }),
    connectionRefused: reason => refused.add(1, { reason }),
    sourceRead: outcome => reads.add(1, { outcome })
  }
}

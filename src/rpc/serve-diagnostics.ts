import type { HealthChecks, ListenAddress } from '../runtime/config-schema.ts'
import { serveHealthChecks, type FailureKeys, type Probe } from '../runtime/health-checks.ts'
import type { Logger } from '../runtime/logger.ts'
import { serveMetrics, type Metrics, type ServeMetricsOptions } from '../runtime/metrics.ts'
import { isSystemError } from '../runtime/system-error.ts'
import { runTasks } from '../runtime/tasks.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { type MetricsTlsDeps, openMetricsTls } from './telemetry/metrics-tls.ts'
import type { PrometheusConfig } from './telemetry/telemetry-config.ts'

export interface DiagnosticsAddresses {
  readonly prometheus: PrometheusConfig | undefined
  readonly healthChecks: HealthChecks | undefined
}

export interface DiagnosticsDeps {
  readonly metrics: Metrics
  readonly probes: Readonly<Record<string, Probe>>
  /** Needed where metrics are served over TLS. */
  readonly own?: Omit<MetricsTlsDeps, 'log'>
  /** Per subsystem, where health checks answer as SPIRE's do. */
  readonly failureKeys?: FailureKeys
  readonly log: Logger
}

/**
 * What a process shows over HTTP, where its configuration asks for it, until the signal aborts.
 * @throws {SpiffeError} `address_unusable`, `file_unusable`
 */
export async function serveDiagnostics (
  { prometheus, healthChecks }: DiagnosticsAddresses, { metrics, probes, failureKeys, own, log }: DiagnosticsDeps, signal: AbortSignal
): Promise<void> {
  await runTasks(signal, [
    async signal => {
      if (prometheus === undefined) return
      const serve = (tls: Partial<ServeMetricsOptions>, signal: AbortSignal) =>
        explaining('metrics', prometheus, serveMetrics(metrics, { ...prometheus, ...tls }, log, signal))
      if (prometheus.tls === undefined) return await serve({}, signal)
      if (own === undefined) throw new Error('there is nobody whose identity could be shown')
      const { run, ...tls } = await openMetricsTls(prometheus.tls, { ...own, log })
      await runTasks(signal, [signal => serve(tls, signal), ...run === undefined ? [] : [run]])
    },
    async signal => {
      if (healthChecks === undefined) return
      await explaining('health checks', healthChecks, serveHealthChecks(probes, healthChecks, log, signal, failureKeys))
    }
  ])
}

async function explaining (what: string, { host, port }: ListenAddress, serving: Promise<void>): Promise<void> {
  try {
    await serving
  } catch (error) {
    if (!isSystemError(error)) throw error
    throw new SpiffeError('address_unusable', `cannot serve ${what} on ${host}:${port}: ${error.message}`, { cause: error })
  }
}

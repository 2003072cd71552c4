import type { HealthChecks, ListenAddress } from '../runtime/config-schema.ts'
import { serveHealthChecks, type Probe } from '../runtime/health-checks.ts'
import type { Logger } from '../runtime/logger.ts'
import { serveMetrics, type Metrics } from '../runtime/metrics.ts'
import { runTasks } from '../runtime/tasks.ts'
import { SpiffeError } from '../spiffe/errors.ts'

export interface DiagnosticsAddresses {
  readonly prometheus: ListenAddress | undefined
  readonly healthChecks: HealthChecks | undefined
}

export interface DiagnosticsDeps {
  readonly metrics: Metrics
  readonly probes: Readonly<Record<string, Probe>>
  readonly log: Logger
}

/**
 * What a process shows over plain HTTP, where its configuration asks for it, until the signal aborts.
 * @throws {SpiffeError} `address_unusable`
 */
export async function serveDiagnostics (
  { prometheus, healthChecks }: DiagnosticsAddresses, { metrics, probes, log }: DiagnosticsDeps, signal: AbortSignal
): Promise<void> {
  await runTasks(signal, [
    async signal => {
      if (prometheus !== undefined) await explaining('metrics', prometheus, serveMetrics(metrics, prometheus, log, signal))
    },
    async signal => {
      if (healthChecks !== undefined) await explaining('health checks', healthChecks, serveHealthChecks(probes, healthChecks, log, signal))
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

function isSystemError (error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error
}

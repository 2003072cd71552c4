import type { Metrics } from '../../runtime/metrics.ts'
import type { DropReason, SinkObserver } from '../decision-log/sink.ts'

/** What the log of decisions tells Prometheus. */
export class SinkMetrics implements SinkObserver {
  readonly #written
  readonly #dropped
  readonly #failures

  constructor (metrics: Metrics) {
    this.#written = metrics.counter<'sink'>({ name: 'decision_log_written_total', help: 'Decisions written', labels: ['sink'] })
    this.#dropped = metrics.counter<'sink' | 'reason'>({
      name: 'decision_log_dropped_total', help: 'Decisions that were not written', labels: ['sink', 'reason']
    })
    this.#failures = metrics.counter<'sink'>({
      name: 'decision_log_failures_total', help: 'Attempts to write that failed', labels: ['sink']
    })
  }

  written (sink: string, count: number): void { this.#written.add(count, { sink }) }
  dropped (sink: string, reason: DropReason, count: number): void { this.#dropped.add(count, { sink, reason }) }
  failed (sink: string): void { this.#failures.add(1, { sink }) }
}

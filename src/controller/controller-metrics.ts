import type { Metrics } from '../runtime/metrics.ts'
import type { Operation } from './reconcile/apply-entries.ts'

export interface ControllerMetrics {
  /** Seconds from the event of a pod to its entry on the server. */
  lag (seconds: number): void
  changed (operation: Operation, count: number): void
  /** @param cause `entry`: the server refused one; `round`: a whole round failed */
  failed (cause: 'entry' | 'federation' | 'round' | 'status'): void
  round (kind: 'pods' | 'all' | 'full', seconds: number): void
  restarted (kind: string): void
  /** Seconds from an entry on the server to the look that found it served by an agent of its node. */
  used (seconds: number): void
  looked (outcome: 'answered' | 'failed' | 'unsupported'): void
}

export interface ControllerGauges {
  /** Of declared entries, by the resource that counts. */
  readonly entries: () => Iterable<readonly [value: number, labels: { readonly kind: string, readonly name: string }]>
  /** Of those, the ones that agents serve; none where the server cannot tell. */
  readonly inUse: () => Iterable<readonly [value: number, labels: { readonly kind: string, readonly name: string }]>
  readonly isLeader: () => boolean
  readonly objects: () => Iterable<readonly [value: number, labels: { readonly kind: string }]>
}

const lagBuckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

export function controllerMetrics (metrics: Metrics): ControllerMetrics & { show (gauges: ControllerGauges): void } {
  const lag = metrics.histogram({
    name: 'entry_lag_seconds', help: 'From the event of a pod to its entry on the server', buckets: lagBuckets
  })
  const changes = metrics.counter({ name: 'entry_changes_total', help: 'Entries that were changed on the server', labels: ['operation'] })
  const errors = metrics.counter({ name: 'errors_total', help: 'What failed, and is tried again', labels: ['cause'] })
  const rounds = metrics.histogram({ name: 'round_seconds', help: 'How long a round of reconciliation took', labels: ['kind'] })
  const restarts = metrics.counter({ name: 'watch_restarts_total', help: 'Watches that broke off', labels: ['kind'] })
  const entries = metrics.gauge({ name: 'entries', help: 'Entries that should be on the server', labels: ['kind', 'name'] })
  const use = metrics.histogram({
    name: 'entry_use_lag_seconds', help: 'From an entry on the server to the look that found its agents serve it', buckets: lagBuckets
  })
  const looks = metrics.counter({
    name: 'use_looks_total', help: 'Times that the server was asked who serves its entries', labels: ['outcome']
  })
  const inUse = metrics.gauge({ name: 'entries_in_use', help: 'Entries that agents serve', labels: ['kind', 'name'] })
  const objects = metrics.gauge({ name: 'objects', help: 'Objects of the cluster that are kept in memory', labels: ['kind'] })
  const leader = metrics.gauge({ name: 'leader', help: '1 while this controller leads' })
  return {
    lag: seconds => lag.observe(seconds),
    changed: (operation, count) => changes.add(count, { operation }),
    failed: cause => errors.add(1, { cause }),
    round: (kind, seconds) => rounds.observe(seconds, { kind }),
    restarted: kind => restarts.add(1, { kind }),
    used: seconds => use.observe(seconds),
    looked: outcome => looks.add(1, { outcome }),
    show (gauges) {
      entries.collectEach(gauges.entries)
      inUse.collectEach(gauges.inUse)
      objects.collectEach(gauges.objects)
      leader.collect(() => gauges.isLeader() ? 1 : 0)
    }
  }
}

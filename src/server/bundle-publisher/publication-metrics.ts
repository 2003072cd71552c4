import type { Clock } from '../../runtime/clock.ts'
import type { Metrics } from '../../runtime/metrics.ts'

/** How long ago this server wrote each place; none of those that another server writes. @returns to be told of each time */
export function addPublicationMetrics (metrics: Metrics, clock: Pick<Clock, 'monotonicMs'>): (place: string) => void {
  const writtenAtMs = new Map<string, number>()
  metrics.gauge<'place'>({
    name: 'bundle_publication_age_seconds', help: 'Time since this server last wrote the own bundle there', labels: ['place']
  }).collectEach(() => [...writtenAtMs].map(([place, atMs]) => [(clock.monotonicMs() - atMs) / 1_000, { place }] as const))
  return place => { writtenAtMs.set(place, clock.monotonicMs()) }
}

import type { AccessLogInit } from '../../wire/generated/envoy-access-log.ts'
import { Config as StatsAccessLog } from '../../wire/generated/envoy-stats-access-log.ts'
import { extension } from './any.ts'

/** Before the name of each statistic of Envoy that is made here. */
export const trafficPrefix = 'assay_mesh'
/** Of one Envoy: with more pairs of callers and workloads than that, the newest are not counted. */
const mostCounters = 8_000

/** What is counted, with labels that are formats of the access log. */
export interface TrafficCounter {
  readonly name: 'requests' | 'connections' | 'plaintext'
  readonly labels: Readonly<Record<string, string>>
}

/** One more for each request or connection when it ends. */
export function counted ({ name, labels }: TrafficCounter): AccessLogInit {
  const tags = Object.entries(labels).map(([label, valueFormat]) => ({ name: label, valueFormat }))
  return extension('envoy.access_loggers.stats', StatsAccessLog, {
    statsScope: { prefix: trafficPrefix, maxCounters: { value: mostCounters }, sharingName: trafficPrefix },
    counters: [{ stat: { name, tags }, valueFixed: { value: 1n } }]
  })
}

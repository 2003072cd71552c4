import type { Metrics } from '../runtime/metrics.ts'
import type { SdsMetrics } from '../sds/sds-events.ts'
import type { NodeIdentities } from './node-identities.ts'
import type { SvidCache } from './svid-cache.ts'

export interface AgentMetrics {
  readonly sds: SdsMetrics
  synced (): void
}

/** What an agent counts; see docs/metrics.md. */
export function agentMetrics (metrics: Metrics, { identities, svids }: { identities: NodeIdentities, svids: SvidCache }): AgentMetrics {
  metrics.gauge({ name: 'entries', help: 'Registration entries this agent may serve' }).collect(() => identities.entries.size)
  metrics.gauge({ name: 'x509_svids', help: 'X509-SVIDs held' }).collect(() => svids.size)
  metrics.gauge({ name: 'workload_views', help: 'Distinct selector sets being watched' }).collect(() => identities.views)
  const syncs = metrics.counter({ name: 'syncs_total', help: 'Successful synchronisations with the server' })
  const streams = metrics.gauge({ name: 'sds_streams', help: 'Open SDS streams', labels: ['kind'] })
  const pushed = metrics.counter({ name: 'sds_pushed_total', help: 'SDS responses sent', labels: ['kind'] })
  const acknowledged = metrics.counter({ name: 'sds_acknowledged_total', help: 'SDS responses Envoy accepted', labels: ['kind'] })
  const refused = metrics.counter({ name: 'sds_refused_total', help: 'SDS responses Envoy refused (NACK)', labels: ['kind'] })
  return {
    synced: () => syncs.add(1),
    sds: {
      streams: (kind, change) => streams.add(change, { kind }),
      pushed: kind => pushed.add(1, { kind }),
      acknowledged: kind => acknowledged.add(1, { kind }),
      refused: kind => refused.add(1, { kind })
    }
  }
}

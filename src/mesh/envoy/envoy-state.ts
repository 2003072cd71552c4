import { z } from 'zod'
import { askEnvoy } from './admin-interface.ts'

const infoSchema = z.object({
  state: z.string().default(''),
  version: z.string().default(''),
  uptime_current_epoch: z.string().regex(/^\d+(\.\d+)?s$/).default('0s')
})
const statsSchema = z.object({ stats: z.array(z.object({ name: z.string().optional(), value: z.unknown() })) })

const counters = '^(listener_manager\\.total_listeners_|cluster_manager\\.warming_clusters$)'

/** What Envoy's admin interface says of it. */
export interface EnvoyState {
  /** E.g. `LIVE`. */
  readonly state: string
  readonly version: string
  readonly uptimeSeconds: number
  /** Listeners that it serves. */
  readonly listeners: number
  /** Listeners that it cannot serve yet. */
  readonly listenersWarming: number
  /** Clusters of whose endpoints it knows nothing yet: who calls one is answered by 503. */
  readonly clustersWarming: number
}

/** `undefined` when it does not answer in time. */
export async function readEnvoyState (adminSocketPath: string, signal: AbortSignal): Promise<EnvoyState | undefined> {
  try {
    const [info, stats] = await Promise.all([
      askEnvoy(adminSocketPath, '/server_info', { signal }).then(text => infoSchema.parse(JSON.parse(text))),
      askEnvoy(adminSocketPath, `/stats?format=json&filter=${encodeURIComponent(counters)}`, { signal })
        .then(text => statsSchema.parse(JSON.parse(text)).stats)
    ])
    const count = (what: string) => Number(stats.find(({ name }) => name === what)?.value ?? 0)
    return {
      state: info.state,
      // `hash/1.40.0/Clean/RELEASE/BoringSSL`
      version: info.version.split('/')[1] ?? '',
      uptimeSeconds: Math.floor(Number.parseFloat(info.uptime_current_epoch)),
      listeners: count('listener_manager.total_listeners_active'),
      listenersWarming: count('listener_manager.total_listeners_warming'),
      clustersWarming: count('cluster_manager.warming_clusters')
    }
  } catch {
    return undefined
  }
}

import type { AttestationMetrics } from '../attestation/workload/attestation-metrics.ts'
import { spireCallMetrics } from '../rpc/spire-call-metrics.ts'
import { spireMetrics, type SpireMetrics, type SpireMetricsOptions, type SpireNames } from '../rpc/spire-metrics.ts'
import type { RpcServerOptions } from '../rpc/server.ts'
import type { Telemetry } from '../rpc/telemetry/telemetry.ts'
import { version } from '../runtime/version.ts'
import type { AgentEvents } from './agent-events.ts'
import type { EntryIndex } from './entry-index.ts'
import type { NodeIdentities } from './node-identities.ts'

const [call, counter, gauge, sample] = [{ kind: 'call' }, { kind: 'counter' }, { kind: 'gauge' }, { kind: 'sample' }] as const

/** What an agent tells under SPIRE's names (spire-surface §10.3), beside its calls. */
export const agentNames = {
  started: { kind: 'gauge', labels: ['version', 'trust_domain_id'] },
  uptime_in_ms: gauge,
  bootstrapped: gauge,
  'node.attestor.new_svid': { kind: 'call', labels: ['attestor'] },
  'agent_svid.rotate': call,
  'node.attest': call,
  'manager.sync.fetch_entries_updates': call,
  'manager.sync.fetch_svids_updates': call,
  sync_bundles_total: gauge,
  sync_entries_total: gauge,
  sync_entries_missing: gauge,
  sync_entries_stale: gauge,
  sync_entries_dropped: gauge,
  lru_cache_entry_add: counter,
  lru_cache_entry_update: counter,
  lru_cache_entry_remove: counter,
  lru_cache_record_map_size: gauge,
  lru_cache_svid_map_size: gauge,
  jwt_svid_cache_size: gauge,
  'workload_api.connection': counter,
  'workload_api.connections': gauge,
  'workload_api.workload_attestation': call,
  'workload_api.workload_attestor': { kind: 'call', labels: ['attestor'] },
  'workload_api.discovered_selectors': sample,
  'workload_api.rate_limit_exceeded': { kind: 'counter', labels: ['method'] },
  'sds_api.connection': counter,
  'sds_api.connections': gauge,
  'debug_api.connection': counter,
  'debug_api.connections': gauge,
  'logger_api.connection': counter,
  'logger_api.connections': gauge,
  'delegated_identity_api.connection': counter,
  'delegated_identity_api.connections': gauge
} as const satisfies SpireNames

export interface SpireAgentMetrics {
  readonly events: AgentEvents
  readonly attestation: AttestationMetrics
  /** Of the sockets for workloads and administrators. */
  readonly calls: Required<Pick<RpcServerOptions, 'before' | 'onEnded'>>
  readonly onLimited: (method: string) => void
  /** From here on what is held is told too. */
  running (state: AgentHoldings): void
}

export interface AgentHoldings {
  readonly identities: NodeIdentities
  readonly svids: { readonly size: number }
  readonly jwts: { readonly size: number }
  readonly joined: () => boolean
}

/** What an agent tells under SPIRE's names; see docs/metrics.md. */
export function spireAgentMetrics (
  telemetry: Telemetry, { trustDomain, clock }: SpireMetricsOptions
): SpireAgentMetrics {
  const spire = spireMetrics<typeof agentNames>(telemetry)
  const startMs = clock.monotonicMs()
  // What a synchronisation changed that is under way, and the last one.
  let [current, last] = [nothing, nothing]
  spire.gauge('started', () => 1, { version, trust_domain_id: trustDomain })
  spire.gauge('uptime_in_ms', () => Math.floor(clock.monotonicMs() - startMs))
  return {
    events: {
      attested: (attestor, took) => spire.call('node.attestor.new_svid', took, { attestor }),
      renewed: (how, took) => spire.call(how === 'signed' ? 'agent_svid.rotate' : 'node.attest', took),
      synced (took) {
        spire.call('manager.sync.fetch_entries_updates', took)
        if (took.error !== undefined) return
        last = current
        current = nothing
      },
      signed: took => spire.call('manager.sync.fetch_svids_updates', took)
    },
    attestation: {
      attestor (attestor, _outcome, durationMs, error) {
        spire.call('workload_api.workload_attestor', { durationMs, error }, { attestor })
      },
      workload (outcome, found, durationMs, error) {
        spire.call('workload_api.workload_attestation', { durationMs, error })
        if (outcome === 'ok') spire.sample('workload_api.discovered_selectors', found)
      }
    },
    onLimited: method => spire.count('workload_api.rate_limit_exceeded', 1, { method }),
    calls: callsOf(spire, spireCallMetrics(telemetry)),
    running ({ identities, svids, jwts, joined }) {
      identities.onEntries((before, after) => {
        current = differenceOf(before, after)
        spire.count('lru_cache_entry_add', current.added)
        spire.count('lru_cache_entry_update', current.updated)
        spire.count('lru_cache_entry_remove', current.removed)
      })
      spire.gauge('bootstrapped', () => joined() ? 1 : 0)
      spire.gauge('sync_bundles_total', () => identities.federatedBundles.size + 1)
      spire.gauge('sync_entries_total', () => identities.entries.size)
      spire.gauge('sync_entries_missing', () => last.added)
      spire.gauge('sync_entries_stale', () => last.updated)
      spire.gauge('sync_entries_dropped', () => last.removed)
      spire.gauge('lru_cache_record_map_size', () => identities.entries.size)
      spire.gauge('lru_cache_svid_map_size', () => svids.size)
      spire.gauge('jwt_svid_cache_size', () => jwts.size)
    }
  }
}

type AgentSpire = SpireMetrics<typeof agentNames>

interface Difference { readonly added: number, readonly updated: number, readonly removed: number }

const nothing: Difference = { added: 0, updated: 0, removed: 0 }

function differenceOf (before: EntryIndex, after: EntryIndex): Difference {
  let [added, updated] = [0, 0]
  for (const entry of after.values()) {
    const known = before.get(entry.id)
    if (known === undefined) added++
    else if (known !== entry) updated++
  }
  return { added, updated, removed: before.size + added - after.size }
}

/** SPIRE calls each call a connection. */
const connectionNames = new Map([
  ['SpiffeWorkloadAPI', 'workload_api'],
  ['envoy.service.secret.v3.SecretDiscoveryService', 'sds_api'],
  ['spire.agent.debug.v1.Debug', 'debug_api'],
  ['spire.api.agent.debug.v1.Debug', 'debug_api'],
  ['spire.api.agent.logger.v1.Logger', 'logger_api'],
  ['spire.api.agent.delegatedidentity.v1.DelegatedIdentity', 'delegated_identity_api']
] as const)

function callsOf (spire: AgentSpire, tellCall: SpireAgentMetrics['calls']['onEnded']): SpireAgentMetrics['calls'] {
  const open = new Map<string, number>()
  const apiOf = (method: string) => (connectionNames as ReadonlyMap<string, ApiName>).get(method.split('/')[1] ?? '')
  return {
    before ({ method }) {
      const api = apiOf(method)
      if (api === undefined) return
      spire.count(`${api}.connection`)
      if (!open.has(api)) spire.gauge(`${api}.connections`, () => open.get(api) ?? 0)
      open.set(api, (open.get(api) ?? 0) + 1)
    },
    onEnded (call) {
      tellCall(call)
      const api = apiOf(call.method)
      // Who was refused before it was known was not counted in.
      if (api !== undefined && call.context !== undefined) open.set(api, (open.get(api) ?? 1) - 1)
    }
  }
}

type ApiName = typeof connectionNames extends ReadonlyMap<string, infer Name> ? Name : never

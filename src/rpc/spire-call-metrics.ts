import type { Counter, Histogram, Metrics } from '../runtime/metrics.ts'
import type { Took } from '../runtime/took.ts'
import type { EndedCall } from './serve-call.ts'
import { spireMetrics } from './spire-metrics.ts'
import { statusWord } from './status-word.ts'

interface Kept { readonly calls: Counter<'status'>, readonly elapsed: Histogram<'status'> }

/**
 * Counts the calls that a server or an agent answers under SPIRE's names too: `spire_server_rpc_agent_v1_agent_attest_agent`, and
 * `…_elapsed_time` in milliseconds (spire-surface §10.1).
 * @param metrics as `spireRegistry` gives them
 */
export function spireCallMetrics (metrics: Metrics): (call: EndedCall) => void {
  const kept = new Map<string, Kept>()
  return ({ method, status, durationMs }) => {
    let { calls, elapsed } = kept.get(method) ?? {}
    if (calls === undefined || elapsed === undefined) {
      const name = spireCallName(method)
      calls = metrics.counter({ name, help: `Calls of ${method}`, labels: ['status'] })
      elapsed = metrics.summary({ name: `${name}_elapsed_time`, help: `Milliseconds that calls of ${method} took`, labels: ['status'] })
      kept.set(method, { calls, elapsed })
    }
    const labels = { status: statusWord(status) }
    calls.add(1, labels)
    elapsed.observe(durationMs, labels)
  }
}

/**
 * Calls that limits of rate are for: `spire_server_rateLimit_agent_v1_agent_attest_agent`, and how long each waited.
 * @param metrics as `spireRegistry` gives them
 */
export function spireLimitMetrics (metrics: Metrics): (method: string, took: Took) => void {
  const spire = spireMetrics<Readonly<Record<string, { readonly kind: 'call' }>>>({}, metrics)
  return (method, took) => spire.call(spireCallName(method).replace(/^rpc/, 'rateLimit'), took)
}

const shortNames: Readonly<Record<string, string>> = {
  SpiffeWorkloadAPI: 'WorkloadAPI',
  'envoy.service.secret.v3.SecretDiscoveryService': 'SDS.v3',
  'grpc.health.v1.Health': 'Health',
  'logger.v1.Logger': 'Logger',
  'spire.api.agent.logger.v1.Logger': 'Logger',
  'spire.agent.debug.v1.Debug': 'Debug',
  'spire.api.agent.debug.v1.Debug': 'Debug',
  'spire.api.agent.delegatedidentity.v1.DelegatedIdentity': 'DelegatedIdentity'
}

/** @param path `/package.Service/Method`. @returns without the prefix, e.g. `rpc_svid_v1_svid_batch_new_x509svid` */
export function spireCallName (path: string): string {
  const [service = '', method = ''] = path.slice(1).split('/')
  const known = service.replace(/^spire\.api\.server\./, '')
  const words = [...(shortNames[known] ?? known).split('.'), method === 'SubscribeToX509SVIDs' ? 'subscribe_to_x509_svids' : method]
  return ['rpc', ...words.map(word => snakeCase(word))].join('_')
}

/** SPIRE's rule, oddities included: `FetchJWTSVIDs` is `fetch_jwtsvi_ds`. */
function snakeCase (word: string): string {
  const beforeCapital = /(?<=[a-z])(?=[A-Z].)|(?<=[^_])(?=[A-Z][a-z])/g
  return word.replaceAll(/[^A-Za-z0-9]/g, '_').replaceAll(beforeCapital, '_').toLowerCase()
}

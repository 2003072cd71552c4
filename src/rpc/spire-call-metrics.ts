import type { Took } from '../runtime/took.ts'
import type { EndedCall } from './serve-call.ts'
import { spireMetrics } from './spire-metrics.ts'
import { statusWord } from './status-word.ts'
import type { Telemetry } from './telemetry/telemetry.ts'

/**
 * Counts the calls that a server or an agent answers under SPIRE's names too: `rpc.agent.v1.agent.attest_agent`, and `….elapsed_time` in
 * milliseconds (spire-surface §10.1).
 */
export function spireCallMetrics (telemetry: Telemetry): (call: EndedCall) => void {
  const names = new Map<string, string>()
  return ({ method, isStream, status: ended, durationMs }) => {
    const name = names.get(method) ?? spireCallName(method)
    names.set(method, name)
    // To SPIRE a caller who ends a stream has made no error: its alarms on those that are not OK stay quiet.
    const status = isStream && ended === 'CANCELLED' ? 'OK' : ended
    const labels = { status: statusWord(status) }
    telemetry.count(name, 1, labels)
    telemetry.sample(`${name}.elapsed_time`, durationMs, labels)
  }
}

/** Calls that limits of rate are for: `rateLimit.agent.v1.agent.attest_agent`, and how long each waited. */
export function spireLimitMetrics (telemetry: Telemetry): (method: string, took: Took) => void {
  const spire = spireMetrics<Readonly<Record<string, { readonly kind: 'call' }>>>(telemetry)
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

/** @param path `/package.Service/Method`. @returns without the prefix, e.g. `rpc.svid.v1.svid.batch_new_x509svid` */
export function spireCallName (path: string): string {
  const [service = '', method = ''] = path.slice(1).split('/')
  const known = service.replace(/^spire\.api\.server\./, '')
  const words = [...(shortNames[known] ?? known).split('.'), method === 'SubscribeToX509SVIDs' ? 'subscribe_to_x509_svids' : method]
  return ['rpc', ...words.map(word => snakeCase(word))].join('.')
}

/** SPIRE's rule, oddities included: `FetchJWTSVIDs` is `fetch_jwtsvi_ds`. */
function snakeCase (word: string): string {
  const beforeCapital = /(?<=[a-z])(?=[A-Z].)|(?<=[^_])(?=[A-Z][a-z])/g
  return word.replaceAll(/[^A-Za-z0-9]/g, '_').replaceAll(beforeCapital, '_').toLowerCase()
}

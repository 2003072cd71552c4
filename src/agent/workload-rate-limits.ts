import { createHash } from 'node:crypto'
import { z } from 'zod'
import { AddressAllowance } from '../rpc/address-allowance.ts'
import type { CallContext } from '../rpc/call.ts'
import type { Clock } from '../runtime/clock.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { formatSelector, normalizeSelectors, type Selector } from '../spiffe/selector.ts'
import { secretDiscoveryService } from '../wire/generated/envoy-sds.ts'
import { workloadService } from '../wire/generated/workload.ts'

/** Of all workloads with the same selectors together. */
export interface WorkloadRateLimit {
  /** As `CallContext.method`. */
  readonly methods: readonly string[]
  /** Calls, or streams that are opened; after a pause as many at once. */
  readonly perSecond: number
}

const { methods: workload } = workloadService
const { methods: secrets } = secretDiscoveryService
const workloadPath = (name: keyof typeof workload) => `/${workloadService.name}/${workload[name].name}`
const secretsPath = (name: keyof typeof secrets) => `/${secretDiscoveryService.name}/${secrets[name].name}`

const limited = {
  fetch_x509_svid: [workloadPath('fetchX509SVID')],
  fetch_jwt_svid: [workloadPath('fetchJWTSVID')],
  fetch_x509_bundles: [workloadPath('fetchX509Bundles')],
  fetch_jwt_bundles: [workloadPath('fetchJWTBundles')],
  // SPIRE's agents have no DeltaSecrets; it would be a way around the limit.
  stream_secrets: [secretsPath('streamSecrets'), secretsPath('deltaSecrets')],
  fetch_secrets: [secretsPath('fetchSecrets')]
}

const perSecond = z.int().min(0, 'must not be negative').default(0)

/** SPIRE's keys, those of `agent.experimental.ratelimit`; 0: no limit. */
export const workloadRateLimitsSchema = z.strictObject({
  fetch_x509_svid: perSecond, fetch_jwt_svid: perSecond, fetch_x509_bundles: perSecond, fetch_jwt_bundles: perSecond,
  stream_secrets: perSecond, fetch_secrets: perSecond
}).prefault({}).transform((limits): readonly WorkloadRateLimit[] =>
  (Object.keys(limited) as Array<keyof typeof limited>)
    .map(key => ({ methods: limited[key], perSecond: limits[key] })).filter(({ perSecond }) => perSecond > 0))

export interface LimitDeps {
  readonly attest: (context: CallContext) => Promise<readonly Selector[]>
  readonly clock: Pick<Clock, 'monotonicMs'>
  /** Told of each call that was refused. */
  readonly onLimited?: ((method: string) => void) | undefined
}

/**
 * Attests who calls, and counts it by what it was found to be: workloads with the same selectors share a limit, and so do those without
 * any. This process asks itself for nothing, so nobody is exempt.
 * @returns throws `workload_rate_limited`, and what `attest` throws
 */
export function limitWorkloads (limits: readonly WorkloadRateLimit[], { attest, clock, onLimited }: LimitDeps): LimitDeps['attest'] {
  if (limits.length === 0) return attest
  const allowances = new Map(limits.flatMap(({ methods, perSecond }) => {
    const allowance = new AddressAllowance({ perSecond, burst: perSecond })
    return methods.map(method => [method, allowance] as const)
  }))
  return async context => {
    const selectors = await attest(context)
    const { method } = context
    const waitSeconds = allowances.get(method)?.take(keyOf(selectors), clock.monotonicMs()) ?? 0
    if (waitSeconds === 0) return selectors
    onLimited?.(method)
    throw new SpiffeError('workload_rate_limited', `rate limit exceeded for ${method}`, { retryAfterMs: waitSeconds * 1000 })
  }
}

/** Of one size, however many selectors there are. */
function keyOf (selectors: readonly Selector[]): string {
  return createHash('sha256').update(normalizeSelectors(selectors).map(formatSelector).join('\0')).digest('base64')
}

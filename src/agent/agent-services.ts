import { attestWorkload } from '../attestation/workload/attest-workload.ts'
import type { AttestationMetrics } from '../attestation/workload/attestation-metrics.ts'
import type { PinnedProcess } from '../attestation/workload/pinned-process.ts'
import type { WorkloadAttestor } from '../attestation/workload/workload-attestor.ts'
import type { CallContext } from '../rpc/call.ts'
import { healthService } from '../rpc/health.ts'
import { reflectionServices } from '../rpc/reflection/reflection-service.ts'
import { bind, type BoundService } from '../rpc/server.ts'
import type { Clock } from '../runtime/clock.ts'
import { sdsHandlers } from '../sds/sds-handlers.ts'
import type { SdsMetrics } from '../sds/sds-events.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { Selector } from '../spiffe/selector.ts'
import { secretDiscoveryService } from '../wire/generated/envoy-sds.ts'
import { workloadService } from '../wire/generated/workload.ts'
import { requireSecurityHeader } from '../workloadapi/security-header.ts'
import { workloadHandlers } from '../workloadapi/workload-handlers.ts'
import type { AgentConfig } from './agent-config.ts'
import type { AgentIdentitySource } from './identity-source.ts'
import type { NodeIdentities } from './node-identities.ts'
import { loggableSelectors } from './loggable-selectors.ts'
import type { Revocations } from './revocations.ts'
import { limitWorkloads } from './workload-rate-limits.ts'

export interface AgentServicesDeps {
  readonly identities: NodeIdentities
  readonly revocations: Revocations
  readonly source: AgentIdentitySource
  readonly attest: AttestCaller
  readonly ready: () => Promise<void>
  readonly clock: Clock
  readonly metrics: { readonly sds: SdsMetrics }
  /** Told of each call that came too soon after others. */
  readonly onLimited?: ((method: string) => void) | undefined
}

export type AttestCaller = (context: CallContext) => Promise<readonly Selector[]>
export type AttestProcess = (process: PinnedProcess, context: Pick<CallContext, 'log' | 'signal'>) => Promise<readonly Selector[]>

export interface AttestCallersDeps {
  readonly attestors: readonly WorkloadAttestor[]
  readonly clock: Clock
  readonly metrics: AttestationMetrics
}

/** Attests a process for a call. */
export function attestProcesses ({ attestors, clock, metrics }: AttestCallersDeps): AttestProcess {
  return (process, { log, signal }) => attestWorkload(process, { attestors, clock, log, metrics }, signal)
}

/** Attests who calls over a Unix socket. */
export function attestCallers (attest: AttestProcess): AttestCaller {
  return async context => {
    if (context.caller.kind !== 'unix') throw new SpiffeError('workload_attestation_failed', 'the caller is not a local process')
    return await attest(context.caller.peer, context)
  }
}

/** What the agent offers on its socket. */
export function agentServices (config: AgentConfig, deps: AgentServicesDeps): BoundService[] {
  const { identities, revocations, source, ready, clock, metrics } = deps
  const attest = limitWorkloads(config.rateLimits, deps)
  const services: BoundService[] = [
    ...config.disableWorkloadApi ? [] : [bind(workloadService, workloadHandlers({
      attestWorkload: attest,
      identities: source,
      clock,
      isRevoked: id => revocations.current.ids.has(id),
      onNoIdentity: config.logSelectors.length === 0 ? undefined : logNoIdentity(config.logSelectors),
      allowUnauthenticatedVerifiers: config.allowUnauthenticatedVerifiers,
      allowedForeignJwtClaims: config.allowedForeignJwtClaims
    }))],
    ...config.disableSdsApi ? [] : [bind(secretDiscoveryService, sdsHandlers({
      attestWorkload: attest,
      identities,
      clock,
      aliases: {
        svid: config.sds.defaultSvidName, bundle: config.sds.defaultBundleName, allBundles: config.sds.defaultAllBundlesName,
        systemRootsFile: config.sds.systemRootsFile
      },
      disableSpiffeCertValidation: config.sds.disableSpiffeCertValidation,
      admit: config.sds.requireSecurityHeader ? requireSecurityHeader : undefined,
      metrics: metrics.sds
    }))],
    healthService(ready)
  ]
  return [...services, ...reflectionServices(services)]
}

/** For who asks why a workload got nothing. */
function logNoIdentity (prefixes: readonly string[]) {
  return ({ log }: CallContext, found: readonly Selector[]): void => {
    const selectors = loggableSelectors(found, prefixes)
    log.error({ registered: false, ...selectors === '' ? {} : { selectors } }, 'no identity issued')
  }
}

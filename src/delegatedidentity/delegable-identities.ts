import type { FollowedWorkload } from '../attestation/workload/followed-workload.ts'
import type { CallContext } from '../rpc/call.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import type { Selector } from '../spiffe/selector.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { JwtSvid, WorkloadIdentity } from '../spiffe/svid.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/** The part of the agent's identities that may be had for somebody else: administrators' and downstream servers' are not in it. */
export interface DelegableIdentities {
  /** Whole states, the current one first, each with every matching SVID ready. Ends when the signal aborts. */
  watch (selectors: readonly Selector[], signal: AbortSignal): AsyncIterable<WorkloadIdentity>
  /** @throws {SpiffeError} `no_identity_issued`, `server_unreachable` and the like */
  fetchJwtSvids (
    selectors: readonly Selector[], audience: readonly string[], id: SpiffeId | undefined, signal: AbortSignal
  ): Promise<readonly JwtSvid[]>
  /** Own and federated bundles of the whole node. */
  watchBundles (signal: AbortSignal): AsyncIterable<{
    readonly bundle: Bundle, readonly federatedBundles: ReadonlyMap<TrustDomain, Bundle>
  }>
}

/** What is known of the one who asks, by who they were attested to be. */
export interface CallerIdentities {
  /** IDs they have now. @throws {SpiffeError} `server_initializing` */
  idsOf (selectors: readonly Selector[]): readonly SpiffeId[]
  /** Says that these may have changed. */
  watch (selectors: readonly Selector[], signal: AbortSignal): AsyncIterable<unknown>
}

/** @throws {SpiffeError} `workload_not_found`, `workload_attestation_failed` */
export type AttestPid = (pid: number, context: CallContext) => Promise<FollowedWorkload>

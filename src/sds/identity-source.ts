import type { CallContext } from '../rpc/call.ts'
import type { Selector } from '../spiffe/selector.ts'
import type { WorkloadIdentity } from '../spiffe/svid.ts'

/** The part of the agent's identities that SDS needs. */
export interface IdentitySource {
  /**
   * Whole states, the current one first; `svids` is empty when no entry matches, the own bundle is always there.
   * Ends when the signal aborts.
   */
  watch (selectors: readonly Selector[], signal: AbortSignal): AsyncIterable<WorkloadIdentity>
}

/** @throws {SpiffeError} `caller_gone`, `workload_attestation_failed` */
export type AttestWorkload = (context: CallContext) => Promise<readonly Selector[]>

import type { CallContext } from '../rpc/call.ts'
import type { Selector } from '../spiffe/selector.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { JwtSvid, WorkloadIdentity } from '../spiffe/svid.ts'

/** The part of the agent's identities that the Workload API needs. */
export interface IdentitySource {
  /**
   * Whole states, the current one first, each with every matching SVID ready; `svids` is empty when no entry matches, the own bundle is
   * always there. Ends when the signal aborts.
   * @throws {SpiffeError} `server_initializing` while nothing is known yet
   */
  watch (selectors: readonly Selector[], signal: AbortSignal): AsyncIterable<WorkloadIdentity>
  /**
   * Tokens for one identity, or for all of them in entry order.
   * @throws {SpiffeError} `no_identity_issued`; `server_initializing`, `server_unreachable` and the like when nothing can sign
   */
  fetchJwtSvids (
    selectors: readonly Selector[], audience: readonly string[], id: SpiffeId | undefined, signal: AbortSignal
  ): Promise<readonly JwtSvid[]>
}

/** @throws {SpiffeError} `caller_gone`, `workload_attestation_failed` */
export type AttestWorkload = (context: CallContext) => Promise<readonly Selector[]>

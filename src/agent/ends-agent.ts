import { codeOf, SpiffeError, type ErrorCode } from '../spiffe/errors.ts'
import { RpcError } from '../rpc/rpc-error.ts'
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason as Reason } from '../wire/generated/types.ts'

/** What a server says of an agent that is one no more; SPIRE says it by these details alone (spire-surface §1.1, §2.2). */
const endings: ReadonlyMap<number, ErrorCode> = new Map([
  [Reason.AGENT_EXPIRED, 'agent_expired'],
  [Reason.AGENT_NOT_ATTESTED, 'agent_not_attested'],
  [Reason.AGENT_NOT_ACTIVE, 'agent_not_active'],
  [Reason.AGENT_BANNED, 'agent_banned'],
  [Reason.AGENT_MUST_REATTEST, 'agent_must_reattest']
])

/** Why the server no longer takes this agent for one: banned, evicted, expired or superseded; `undefined` for any other failure. */
export function endingOf (error: unknown): ErrorCode | undefined {
  if (error instanceof RpcError) return endings.get(error.detail(PermissionDeniedDetails)?.reason ?? -1)
  return codeOf(error) === 'agent_expired' ? 'agent_expired' : undefined
}

/** Whether the error is the agent's end. */
export function endsAgent (error: unknown): boolean { return endingOf(error) !== undefined }

/** The refusal as the agent's own end. */
export function asEnding (error: unknown): SpiffeError {
  if (error instanceof SpiffeError) return error
  return new SpiffeError(
    endingOf(error) ?? 'agent_not_attested', 'the server refuses this agent; its SVID is removed and it must attest again', { cause: error }
  )
}

import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { Agent } from '../../wire/generated/types.ts'
import { spiffeIdText } from '../../wire/spiffe-id-codec.ts'
import { spiffeIdFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'

export const agentIdFlag = spiffeIdFlag('the agent, e.g. spiffe://example.org/spire/agent/join_token/…')

/** @throws {SpiffeError} `usage_invalid` */
export function requireAgentId (id: SpiffeId | undefined): SpiffeId {
  if (id === undefined) throw usage('a SPIFFE ID is required: -spiffeID')
  return id
}

export function agentIdText ({ id }: Agent): string {
  return spiffeIdText(id)
}

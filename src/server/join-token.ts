import { agentIdOf } from '../spiffe/agent.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'

/**
 * The ID a node gets by a join token: `/spire/agent/join_token/<token>`.
 * @throws {SpiffeError} `argument_invalid`; the token is not in the message
 */
export function joinTokenAgentId (trustDomain: TrustDomain, token: string): SpiffeId {
  try {
    if (!token.includes('/')) return agentIdOf(trustDomain, 'join_token', token)
  } catch {}
  throw new SpiffeError('argument_invalid', 'the token has a character other than A-Z a-z 0-9 . - _')
}

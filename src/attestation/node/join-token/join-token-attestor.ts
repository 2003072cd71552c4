import { SpiffeError } from '../../../spiffe/errors.ts'
import type { NodeAttestor } from '../node-attestor.ts'

/**
 * Shows a token that the server made. Its server half is the server's join token store itself: the token must be used up in the same
 * transaction that records the agent.
 * @param readToken called for each attestation; a token serves once
 */
export function createJoinTokenAttestor (readToken: () => Promise<string>): NodeAttestor {
  return {
    name: 'join_token',
    async * attest () {
      const token = await readToken()
      if (token === '') throw new SpiffeError('join_token_invalid', 'the join token is empty')
      yield Buffer.from(token)
      throw new SpiffeError('attestation_malformed', 'the server challenged a join token')
    }
  }
}

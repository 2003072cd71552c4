import type { NodeVerifier } from '../node-verifier.ts'

/**
 * The server's half: the token is looked at here and used up where the agent is recorded. It is also the agent's name.
 * @param check throws {SpiffeError} `join_token_invalid` unless there is such a token, unused and in time
 */
export function createJoinTokenVerifier (check: (token: string) => Promise<void>): NodeVerifier {
  return {
    name: 'join_token',
    async verify (payload) {
      const joinToken = Buffer.from(payload).toString('utf8')
      await check(joinToken)
      return { idPath: joinToken, selectors: [], canReattest: false, joinToken }
    }
  }
}

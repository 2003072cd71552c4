import { RpcError } from '../rpc/rpc-error.ts'
import { SpiffeError } from '../spiffe/errors.ts'

/** Why this side refused the server's certificate, if that is what happened. */
export function serverRefusal (error: unknown): SpiffeError | undefined {
  const cause = error instanceof RpcError ? error.cause : undefined
  return cause instanceof SpiffeError ? cause : undefined
}

/**
 * What keeps an agent from its servers and does not go away by itself, as after a sleep so long that the CA it knows is gone.
 * @returns `server_untrusted`, `agent_untrusted`; `undefined` for a server that is merely away
 */
export function lastingTrouble (error: unknown): SpiffeError | undefined {
  const refusal = serverRefusal(error)
  if (refusal !== undefined) {
    const reason = `the server's certificate does not fit the bundle known here: ${refusal.message}`
    return new SpiffeError('server_untrusted', reason, { cause: error })
  }
  if (!(error instanceof RpcError) || error.status !== 'UNAUTHENTICATED') return undefined
  return new SpiffeError('agent_untrusted', `the server does not accept this agent's certificate: ${error.message}`, { cause: error })
}

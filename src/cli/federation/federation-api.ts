import { SpiffeError } from '../../spiffe/errors.ts'

/** @returns what to throw instead: a server without the API is told apart from one that refuses */
export function explainMissing (error: unknown): unknown {
  const { name, status, code } = error as { readonly name?: string, readonly status?: string, readonly code?: string }
  if (name !== 'RpcError' || status !== 'UNIMPLEMENTED' || code === 'jwt_disabled') return error
  return new SpiffeError('cluster_api_missing', 'this server has no assay.server.federation.v1.Federation API', { cause: error })
}

import type { CallOptions, Channel } from '../../rpc/channel.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { clusterService, type Convergence, type GetStatusResponse, type WatchConvergenceRequestInit } from '../../wire/generated/cluster.ts'

/** @throws {SpiffeError} `cluster_api_missing` from a server that is not Assay's */
export async function getStatus (channel: Channel, options: CallOptions): Promise<GetStatusResponse> {
  try {
    return await channel.client(clusterService).getStatus({}, options)
  } catch (error) {
    throw explainMissing(error)
  }
}

/** Who has what, step by step. @returns the last step. @throws {SpiffeError} `cluster_api_missing` */
export async function watchConvergence (
  channel: Channel, request: WatchConvergenceRequestInit, options: CallOptions, onStep: (step: Convergence) => void = () => {}
): Promise<Convergence> {
  let last: Convergence | undefined
  try {
    for await (const step of channel.client(clusterService).watchConvergence(request, options)) {
      last = step
      onStep(step)
    }
  } catch (error) {
    throw explainMissing(error)
  }
  if (last === undefined) throw new SpiffeError('server_unreachable', 'the server ended without an answer')
  return last
}

/** @returns what to throw instead: a server without the API is told apart from one that refuses */
function explainMissing (error: unknown): unknown {
  const { name, status } = error as { readonly name?: string, readonly status?: string }
  if (name !== 'RpcError' || status !== 'UNIMPLEMENTED') return error
  return new SpiffeError('cluster_api_missing', 'this server has no assay.server.v1.Cluster API', { cause: error })
}

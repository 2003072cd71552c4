import type { CallOptions, Channel } from '../../rpc/channel.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { clusterService, type Convergence, type GetStatusResponse, type WatchConvergenceRequestInit } from '../../wire/generated/cluster.ts'

/** @throws {SpiffeError} `cluster_api_missing` from a server that is not Assay's */
export async function getStatus (channel: Channel, options: CallOptions): Promise<GetStatusResponse> {
  return channel.client(clusterService).getStatus({}, options).catch(explainMissing)
}

/** Who has what now. @throws {SpiffeError} `cluster_api_missing` */
export async function askConvergence (
  channel: Channel, question: WatchConvergenceRequestInit, options: CallOptions
): Promise<Convergence> {
  try {
    const answers = channel.client(clusterService).watchConvergence({ ...question, once: true }, options)
    for await (const convergence of answers) return convergence
  } catch (error) {
    explainMissing(error)
  }
  throw new SpiffeError('server_unreachable', 'the server ended without an answer')
}

/** Rethrows; a server that does not know the API is told apart from one that refuses. */
export function explainMissing (error: unknown): never {
  const { status, code } = error as { readonly status?: string, readonly code?: string }
  if (status !== 'UNIMPLEMENTED' || code === 'cluster_api_missing') throw error
  throw new SpiffeError('cluster_api_missing', 'this server has no assay.server.v1.Cluster API', { cause: error })
}

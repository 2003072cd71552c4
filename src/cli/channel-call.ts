import type { Channel } from '../rpc/channel.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { agentSocketPath, serverSocketPath } from './socket-path.ts'
import type { Terminal } from './terminal.ts'

interface ClientCall {
  readonly flags: { readonly socketPath: string | undefined, readonly instance: string | undefined }
  readonly terminal: Terminal
}

/** Calls the server over its admin socket. @throws {SpiffeError} `server_unreachable`; whatever the server refuses with */
export async function withServer<T> ({ flags, terminal }: ClientCall, use: (channel: Channel) => Promise<T>): Promise<T> {
  return withChannel(serverSocketPath(flags, terminal.environment), 'server', use)
}

/** The same, given the socket's path. */
export async function withServerAt<T> (path: string, use: (channel: Channel) => Promise<T>): Promise<T> {
  return withChannel(path, 'server', use)
}

/** Calls the agent over its public socket. @throws {SpiffeError} `server_unreachable`; whatever the agent refuses with */
export async function withAgent<T> ({ flags, terminal }: ClientCall, use: (channel: Channel) => Promise<T>): Promise<T> {
  return withChannel(agentSocketPath(flags, terminal.environment), 'agent', use)
}

/** The same, given the path of one of its sockets. */
export async function withAgentAt<T> (path: string, use: (channel: Channel) => Promise<T>): Promise<T> {
  return withChannel(path, 'agent', use)
}

async function withChannel<T> (path: string, whose: string, use: (channel: Channel) => Promise<T>): Promise<T> {
  // Loaded only now: help, completion and wrong usage need no gRPC.
  const { openUnixChannel } = await import('../rpc/channel.ts')
  await using channel = openUnixChannel(path)
  try {
    return await use(channel)
  } catch (error) {
    throw explainUnreachable(error, whose, path)
  }
}

/** @returns what to throw instead: an unreachable server is named by its socket, all else is as it was */
export function explainUnreachable (error: unknown, whose: string, path: string): unknown {
  const { name, status, code } = error as { name?: string, status?: string, code?: string }
  if (name !== 'RpcError' || status !== 'UNAVAILABLE' || (code !== undefined && code !== 'server_unreachable')) return error
  return new SpiffeError('server_unreachable', `cannot reach the ${whose} at ${path}: ${(error as Error).message}`, { cause: error })
}

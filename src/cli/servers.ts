import type { Channel } from '../rpc/channel.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { healthService } from '../wire/generated/health.ts'
import { explainUnreachable } from './channel-call.ts'
import { serverSocketPaths } from './socket-path.ts'
import type { Terminal } from './terminal.ts'

interface ServersCall {
  readonly flags: { readonly socketPath: readonly string[], readonly instance: string | undefined }
  readonly terminal: Terminal
}

interface Server { readonly path: string, readonly channel: Channel }

const probeTimeoutMs = 5_000
/** A server that comes back is found soon. */
const longestBackoffMs = 500

/** Replicas of one trust domain by their admin sockets, one of which is asked until it is away. */
export class Servers {
  readonly #servers: readonly Server[]
  readonly #signal: AbortSignal
  #current = 0
  #answered: boolean

  constructor (servers: readonly Server[], signal: AbortSignal) {
    this.#servers = servers
    this.#signal = signal
    // Of one server it need not be known whether it is there before it is told something.
    this.#answered = servers.length <= 1
  }

  /** What may be asked twice: each server is tried once, from the one that answered last. @throws what the last one failed with */
  async ask<T> (call: (channel: Channel) => Promise<T>): Promise<T> {
    for (let tried = 1; ; tried++) {
      try {
        const answer = await this.#call(call)
        this.#answered = true
        return answer
      } catch (error) {
        if (!isAway(error)) throw error
        this.#current = (this.#current + 1) % this.#servers.length
        if (tried >= this.#servers.length) throw error
      }
    }
  }

  /** What must not be made twice: one server is called once, of several one that answers. */
  async change<T> (call: (channel: Channel) => Promise<T>): Promise<T> {
    if (!this.#answered) {
      await this.ask(channel => channel.client(healthService).check({}, { signal: this.#signal, timeoutMs: probeTimeoutMs }))
    }
    return this.#call(call)
  }

  async #call<T> (call: (channel: Channel) => Promise<T>): Promise<T> {
    const { path, channel } = this.#servers[this.#current] as Server
    try {
      return await call(channel)
    } catch (error) {
      throw explainUnreachable(error, 'server', path)
    }
  }
}

/** Calls servers over their admin sockets. @throws {SpiffeError} `server_unreachable`; whatever a server refuses with */
export async function withServers<T> ({ flags, terminal }: ServersCall, use: (servers: Servers) => Promise<T>): Promise<T> {
  const paths = serverSocketPaths(flags, terminal.environment)
  // Loaded only now: help, completion and wrong usage need no gRPC.
  const { openUnixChannel } = await import('../rpc/channel.ts')
  await using scope = new AsyncDisposableStack()
  const servers = paths.map(path => ({ path, channel: scope.use(openUnixChannel(path, { maxBackoffMs: longestBackoffMs })) }))
  return await use(new Servers(servers, terminal.signal))
}

const awayStatuses: ReadonlySet<string> = new Set(['UNAVAILABLE', 'DEADLINE_EXCEEDED', 'CANCELLED'])

/** Whether a server could not answer for now: it is down, cut off or too slow; another one, or the same one later, may well. */
export function isAway (error: unknown): boolean {
  if (error instanceof SpiffeError) return awayStatuses.has(error.row.status)
  const { name, status } = error as { name?: string, status?: string }
  return name === 'RpcError' && status !== undefined && awayStatuses.has(status)
}

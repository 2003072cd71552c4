import type { Channel } from '../../rpc/channel.ts'
import { RpcError } from '../../rpc/rpc-error.ts'
import { parseSpiffeId, type SpiffeId } from '../../spiffe/spiffe-id.ts'
import { decodeCursor, type LogPlace } from '../../wire/cursor-codec.ts'
import { clusterService, type Convergence } from '../../wire/generated/cluster.ts'

/** How far one agent is. */
export interface AgentProgress {
  readonly id: SpiffeId
  /** Heard of lately. */
  readonly live: boolean
  /** Up to where it is proved to have the server's log. */
  readonly proved: LogPlace | undefined
  /** Entries of its own that it has no SVID for. */
  readonly unserved: readonly string[]
}

export interface Progress {
  /** Where the log stands: what was written before the question is of that place or an earlier one. */
  readonly head: LogPlace
  readonly agents: readonly AgentProgress[]
}

const timeoutMs = 10_000

/** What a server knows of its agents by their acknowledgements; only Assay's has it. */
export class ServerConvergence {
  readonly #channel: Channel

  constructor (channel: Channel) { this.#channel = channel }

  /**
   * One look.
   * @param entryId only agents that this entry concerns; all unless given
   * @returns `undefined` from a server that keeps no such record
   * @throws {RpcError}
   */
  async ask (entryId: string | undefined, signal: AbortSignal): Promise<Progress | undefined> {
    const request = { once: true, entryIds: entryId === undefined ? [] : [entryId] }
    let answer: Progress | undefined
    try {
      for await (const step of this.#channel.client(clusterService).watchConvergence(request, { signal, timeoutMs })) answer = decode(step)
    } catch (error) {
      if (error instanceof RpcError && error.status === 'UNIMPLEMENTED') return undefined
      throw error
    }
    return answer
  }
}

function decode ({ cursor, consumers }: Convergence): Progress | undefined {
  const head = decodeCursor(cursor)
  return head && {
    head,
    agents: consumers.map(({ agentId, live, provedCursor, unservedEntryIds }) => ({
      id: parseSpiffeId(agentId), live, proved: decodeCursor(provedCursor), unserved: unservedEntryIds
    }))
  }
}

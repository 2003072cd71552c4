import { isAgentId } from '../../spiffe/agent.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { hasReached, type Cursor } from '../../storage/change-log.ts'
import type { AgentProgress, ProgressState, ProgressStore } from '../../storage/progress-store.ts'
import type { ReplicaStore } from '../../storage/replica-store.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { AgentFeeds } from './agent-feeds.ts'
import type { Replica } from '../replication/replica.ts'

/** `waiting`: live and without the change; `absent`: not heard of lately, so that nothing waits for it. */
export type ConsumerState = ProgressState | 'waiting' | 'absent'

export interface ConsumerProgress {
  readonly agentId: SpiffeId
  readonly state: ConsumerState
  readonly cursor: Cursor | undefined
  readonly unservedEntryIds: readonly string[]
  readonly seenAt: Date | undefined
}

export interface ConvergenceState {
  readonly consumers: readonly ConsumerProgress[]
  /** Every live consumer that must have the change has it. */
  readonly converged: boolean
}

export interface ConvergenceQuestion {
  /** Where the log stood after the change. */
  readonly cursor: Cursor
  /** Where it stood before: who was concerned in between must have dropped what it lost. */
  readonly since?: Cursor | undefined
  /** Only agents that one of these concerns; all agents when empty. */
  readonly entryIds: readonly string[]
}

export interface ConvergenceDeps {
  readonly replica: Replica
  readonly feeds: AgentFeeds
  readonly progress: ProgressStore
  readonly replicas: ReplicaStore
  readonly clock: Clock
}

/** An agent that polls is taken for live as long as this after its last poll. */
const livePollerMs = 30_000
/** A replica that has not reported for so long is down, and its agents are on their way to another one. */
const liveReplicaMs = 15_000

/** Who has taken a change over, wherever it is connected. */
export class Convergence {
  readonly #deps: ConvergenceDeps

  constructor (deps: ConvergenceDeps) { this.#deps = deps }

  async state (question: ConvergenceQuestion): Promise<ConvergenceState> {
    const { progress, replicas, clock } = this.#deps
    const wanted = this.#required(question)
    const now = clock.now().getTime()
    const stored = new Map((await progress.list([...wanted.keys()])).map(row => [row.agentId, row]))
    const live = new Set((await replicas.list()).filter(({ seenAt }) => now - seenAt.getTime() < liveReplicaMs).map(({ id }) => id))
    const consumers = [...wanted].map(([agentId, required]) => this.#judge(agentId, required, stored.get(agentId), live, now))
    return { consumers, converged: consumers.every(({ state }) => state !== 'waiting' && state !== 'written') }
  }

  /** The agents a change concerns, each with the place in the log it must have reached. */
  #required ({ cursor, since, entryIds }: ConvergenceQuestion): ReadonlyMap<SpiffeId, Cursor> {
    const { replica, feeds } = this.#deps
    const all = () => new Map([...replica.registry.agentIds()].map(id => [id, cursor]))
    if (entryIds.length === 0) return all()
    if (since !== undefined) {
      const touched = feeds.history.between(since, cursor, new Set(entryIds))
      // Where this replica does not remember the change, anybody may have lost by it.
      return touched === undefined ? all() : new Map([...touched].map(([id, number]) => [id, { epoch: cursor.epoch, number }]))
    }
    // Nor is it known who had what is gone.
    if (entryIds.some(id => replica.registry.get(id) === undefined)) return all()
    const concerned = entryIds.flatMap(id => [...replica.registry.agentsOf(id)])
    return new Map(concerned.filter(isAgentId).map(id => [id, cursor]))
  }

  #judge (agentId: SpiffeId, required: Cursor, row: AgentProgress | undefined, live: ReadonlySet<string>, now: number): ConsumerProgress {
    const here = this.#deps.feeds.progressOf(agentId)
    const known = here ?? row
    const facts = { agentId, cursor: known?.cursor, unservedEntryIds: known?.unservedEntryIds ?? [], seenAt: row?.seenAt }
    if (known !== undefined && hasReached(known.cursor, required)) return { ...facts, state: known.state }
    const connected = here !== undefined || this.#deps.feeds.openOf(agentId) > 0 || (row !== undefined && live.has(row.replicaId))
    const polls = row !== undefined && row.state !== 'acknowledged' && now - row.seenAt.getTime() < livePollerMs
    return { ...facts, state: connected || polls ? 'waiting' : 'absent' }
  }
}

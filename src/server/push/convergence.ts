import { isAgentId } from '../../spiffe/agent.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { hasReached, type Cursor } from '../../storage/change-log.ts'
import type { AgentProgress, ProgressState, ProgressStore, ServedPolicyVersion } from '../../storage/progress-store.ts'
import type { ReplicaStore } from '../../storage/replica-store.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { AgentDirectory } from '../agent-directory.ts'
import type { Registry } from '../registry.ts'
import type { ChangeHistory } from '../replication/change-history.ts'
import { liveReplicaMs } from '../replication/report-replica.ts'
import type { AgentFeeds } from './agent-feeds.ts'

/** `waiting`: live and without the change; `absent`: not heard of lately, so that nothing waits for it. */
export type ConsumerState = ProgressState | 'waiting' | 'absent'

export interface ConsumerProgress {
  readonly agentId: SpiffeId
  readonly state: ConsumerState
  readonly cursor: Cursor | undefined
  /** Up to where it is proved to have the log; `undefined`: what it was answered may not have arrived. */
  readonly proved: Cursor | undefined
  /** Heard of lately; one that has gone may have had everything before. */
  readonly live: boolean
  readonly unservedEntryIds: readonly string[]
  readonly seenAt: Date | undefined
  /** Which has its stream; empty: none, as far as is known. */
  readonly replicaId: string
  /** Whether it follows services too. */
  readonly mesh: boolean
  /** What it decides by; `undefined`: it does not follow policies. */
  readonly policies: ServedPolicyVersion | undefined
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
  /** Only agents that follow services. */
  readonly services?: boolean | undefined
  /** Only agents that follow policies. */
  readonly policies?: boolean | undefined
}

export interface ConvergenceDeps {
  /** This replica. */
  readonly replicaId: string
  readonly replica: {
    readonly registry: Pick<Registry, 'agentIds' | 'agentsOf' | 'get'>
    readonly agents: Pick<AgentDirectory, 'get'>
  }
  readonly feeds: Pick<AgentFeeds, 'progressOf' | 'openOf'> & { readonly history: Pick<ChangeHistory, 'between'> }
  readonly progress: Pick<ProgressStore, 'list'>
  readonly replicas: Pick<ReplicaStore, 'list'>
  readonly clock: Pick<Clock, 'now'>
}

/** An agent that polls is taken for live as long as this after its last poll. */
const livePollerMs = 30_000
/** An agent whose stream ended is on its way to another replica, for as long as one whose replica died without a word. */
const returningMs = liveReplicaMs

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
    const consumers = [...wanted].filter(([agentId]) => !this.#isBanned(agentId))
      .map(([agentId, required]) => this.#judge(agentId, required, stored.get(agentId), live, now))
      .filter(({ mesh, policies }) => (mesh || question.services !== true) && (policies !== undefined || question.policies !== true))
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

  /** Nothing is served to it any more, and nothing waits for it. */
  #isBanned (agentId: SpiffeId): boolean { return this.#deps.replica.agents.get(agentId)?.banned === true }

  #judge (agentId: SpiffeId, required: Cursor, row: AgentProgress | undefined, live: ReadonlySet<string>, now: number): ConsumerProgress {
    const here = this.#deps.feeds.progressOf(agentId)
    const known = here ?? row
    const replicaId = here === undefined ? row?.replicaId ?? '' : this.#deps.replicaId
    const { cursor, unservedEntryIds = [], mesh = false, policies } = known ?? {}
    const proved = known?.state === 'written' ? undefined : cursor
    const connected = here !== undefined || this.#deps.feeds.openOf(agentId) > 0 || (row !== undefined && live.has(row.replicaId))
    const unseenMs = row === undefined ? Infinity : now - row.seenAt.getTime()
    const polls = row?.state !== 'acknowledged' && unseenMs < livePollerMs
    const returns = row?.replicaId === '' && unseenMs < returningMs
    const isLive = connected || polls || returns
    const facts = { agentId, cursor, proved, live: isLive, unservedEntryIds, seenAt: row?.seenAt, replicaId, mesh, policies }
    if (known !== undefined && hasReached(known.cursor, required)) return { ...facts, state: known.state }
    return { ...facts, state: isLive ? 'waiting' : 'absent' }
  }
}

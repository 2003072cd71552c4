import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { Cursor } from './change-log.ts'

/**
 * How it is known what an agent has: `acknowledged` by itself over the push stream; of one that polls, `written` is what it was last
 * answered, and `inferred` what a later call proves to have arrived.
 */
export type ProgressState = 'acknowledged' | 'written' | 'inferred'

/** What an agent decides by. */
export interface ServedPolicyVersion {
  /** 0: none. */
  readonly version: number
  /** Why what was pushed last is not served, and the version above is instead; empty: it is served. */
  readonly refusal: string
}

export interface AgentProgress {
  readonly agentId: SpiffeId
  /** Whom the agent talks to, or last did; empty once it went away. */
  readonly replicaId: string
  readonly state: ProgressState
  readonly cursor: Cursor
  /** Entries whose SVIDs it could not have signed. */
  readonly unservedEntryIds: readonly string[]
  readonly seenAt: Date
  /** Whether the agent follows services too. */
  readonly mesh?: boolean | undefined
  /** Absent: the agent does not follow policies. */
  readonly policies?: ServedPolicyVersion | undefined
}

export interface ProgressStore {
  /** Adds or replaces, all in one statement per few hundred. */
  report (progress: readonly AgentProgress[]): Promise<void>
  /** Marks as gone those whom this replica still claims. @param agentIds all of them unless given */
  leave (replicaId: string, seenAt: Date, agentIds?: readonly SpiffeId[]): Promise<void>
  /** @param agentIds all unless given */
  list (agentIds?: readonly SpiffeId[]): Promise<readonly AgentProgress[]>
  /** Forgets those who are no agents any more and were not seen since. */
  prune (before: Date): Promise<void>
}

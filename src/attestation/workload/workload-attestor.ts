import type { Selector } from '../../spiffe/selector.ts'
import type { PinnedProcess } from './pinned-process.ts'
import type { PodAccess } from './pod-access.ts'
import type { NodePods } from './node-pods.ts'
import type { PodFinder } from './pod-finder.ts'

/** Finds out facts about a process without its help. */
export interface WorkloadAttestor {
  /** Also the type of all its selectors, e.g. `unix`. */
  readonly name: string
  /** How long an answer may rightly take, where that is longer than usual. */
  readonly patienceMs?: number
  /** Of an attestor that knows pods: finds those that others name. */
  readonly pods?: PodFinder
  /** Of an attestor that has a say in which brokers may name its pods. */
  readonly access?: PodAccess
  /** Of the same: all of this node. */
  readonly nodePods?: NodePods
  /**
   * All that holds for the process; a fact that cannot be found out is an error, not an omission.
   * What is read about a PID need not be checked here: the caller checks the process before and after.
   */
  attest (process: PinnedProcess, signal: AbortSignal): Promise<readonly Selector[]>
}

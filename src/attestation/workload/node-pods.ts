import type { Selector } from '../../spiffe/selector.ts'

/** A pod of this node. */
export interface NodePod {
  /** Lower case. */
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  /** What holds for it from its first moment on; of no container. */
  readonly selectors: readonly Selector[]
  /** Whether it has no network namespace of its own. */
  readonly hostNetwork: boolean
  /** Whether it has come to its end, and its network with it. */
  readonly ended: boolean
}

/** All pods of this node, and their processes. */
export interface NodePods {
  /**
   * By UID, asked for after the call.
   * @throws {SpiffeError} `workload_attestation_failed`; when the signal aborts, its reason
   */
  list (signal: AbortSignal): Promise<ReadonlyMap<string, NodePod>>
  /** PIDs of those pods that the last list told of, by UID, each pod's oldest first: the one that was there before all containers. */
  processes (uids: ReadonlySet<string>): ReadonlyMap<string, readonly number[]>
}

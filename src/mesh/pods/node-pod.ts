import type { Selector } from '../../spiffe/selector.ts'

/** A pod of this node, as whoever runs it tells. */
export interface NodePod {
  /** Lower case. */
  readonly uid: string
  readonly namespace: string
  readonly name: string
  readonly labels: Labels
  /** What holds for it from its first moment on: with these its entries are found. */
  readonly selectors: readonly Selector[]
  /** Whether it has no network namespace of its own. */
  readonly hostNetwork: boolean
  /** Whether it has come to its end, and its network with it. */
  readonly ended: boolean
}

export type Labels = Readonly<Record<string, string>>

/** The node's pods. */
export interface NodePods {
  /** By UID, asked for after the call. @throws {SpiffeError} when nobody says; when the signal aborts, its reason */
  list (signal: AbortSignal): Promise<ReadonlyMap<string, NodePod>>
  /** PIDs of these pods' processes, by UID, each pod's oldest first. */
  processes (uids: ReadonlySet<string>): ReadonlyMap<string, readonly number[]>
}

/** As a container runtime names a pod. */
export interface PodName {
  readonly namespace: string
  readonly name: string
  /** Lower case; `undefined`: the runtime does not say. */
  readonly uid: string | undefined
}

export function nameOf ({ namespace, name }: Pick<NodePod, 'namespace' | 'name'>): string { return `${namespace}/${name}` }

import type { Clock } from '../../runtime/clock.ts'
import type { ClientOf } from '../../rpc/channel.ts'
import { clusterService, type Convergence, type GetStatusResponse } from '../../wire/generated/cluster.ts'

export type ClusterClient = ClientOf<typeof clusterService.methods>

/** What happened when one replica stood aside. */
export interface Round {
  readonly replicaId: string
  readonly address: string
  /** That had their stream there. */
  readonly agents: number
  /** Until the last of them had acknowledged at another replica; milliseconds. Absent when some never did. */
  readonly movedMs: number | undefined
  /** Agents that did not come up elsewhere in time. */
  readonly laggards: readonly string[]
  /** Absent when this replica did not do the chores. */
  readonly chores: { readonly takenOverBy: string | undefined, readonly afterMs: number | undefined } | undefined
}

export interface RoundOptions {
  /** How long the replica stands aside at the most: what has not happened by then has failed. */
  readonly forMs: number
  readonly clock: Clock
  readonly signal: AbortSignal
}

const lookEveryMs = 50
const callTimeoutMs = 10_000

/** Has one replica stand aside until its agents and chores are elsewhere, and brings it back whatever happens. */
export async function drillReplica (cluster: ClusterClient, { forMs, clock, signal }: RoundOptions): Promise<Round> {
  const call = { signal, timeoutMs: callTimeoutMs }
  const before = await cluster.getStatus({}, call)
  const { replicaId } = before
  const didChores = before.leaseHolder === replicaId
  const startedMs = clock.monotonicMs()
  const elapsedMs = () => Math.round(clock.monotonicMs() - startedMs)
  try {
    const { agentIds } = await cluster.standAside({ durationMs: forMs }, call)
    let laggards = new Set(agentIds)
    let movedMs = laggards.size === 0 ? 0 : undefined
    let choresTo: string | undefined
    let choresMs: number | undefined
    const isDone = () => movedMs !== undefined && (!didChores || choresMs !== undefined)
    while (elapsedMs() < forMs && !isDone()) {
      await clock.sleep(lookEveryMs, signal)
      if (movedMs === undefined) {
        laggards = laggardsOf(laggards, await convergenceOf(cluster, { cursor: before.head }, call), replicaId)
        if (laggards.size === 0) movedMs = elapsedMs()
      }
      if (!didChores || choresMs !== undefined) continue
      const { leaseHolder, replicas } = await cluster.getStatus({}, call)
      if (leaseHolder === replicaId) continue
      choresMs = elapsedMs()
      choresTo = replicas.find(({ id }) => id === leaseHolder)?.address ?? leaseHolder
    }
    return {
      replicaId, address: addressOf(before), agents: agentIds.length, movedMs, laggards: [...laggards],
      chores: didChores ? { takenOverBy: choresTo, afterMs: choresMs } : undefined
    }
  } finally {
    // Not with the signal: it must come back although the operator went away. If it cannot be told, it comes back by itself.
    await cluster.standAside({ durationMs: 0 }, { timeoutMs: callTimeoutMs }).catch(() => {})
  }
}

interface CallLimits { readonly signal: AbortSignal, readonly timeoutMs: number }

/** Where all agents stand now. @param question the place in the log they must have reached; where the log is now if not given */
export async function convergenceOf (
  cluster: ClusterClient, question: { readonly cursor?: GetStatusResponse['head'] }, call: CallLimits
): Promise<Convergence> {
  for await (const convergence of cluster.watchConvergence({ ...question, once: true }, call)) return convergence
  return { cursor: undefined, consumers: [], converged: true }
}

function laggardsOf (before: ReadonlySet<string>, { consumers }: Convergence, from: string): Set<string> {
  const moved = consumers.filter(({ state, replicaId }) => state === 'acknowledged' && replicaId !== '' && replicaId !== from)
  const elsewhere = new Set(moved.map(({ agentId }) => agentId))
  return new Set([...before].filter(agent => !elsewhere.has(agent)))
}

function addressOf ({ replicaId, replicas }: GetStatusResponse): string {
  return replicas.find(({ id }) => id === replicaId)?.address ?? replicaId
}

export function succeeded ({ movedMs, chores }: Round): boolean {
  return movedMs !== undefined && (chores === undefined || chores.afterMs !== undefined)
}

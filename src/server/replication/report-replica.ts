import { hostname } from 'node:os'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop } from '../../runtime/tasks.ts'
import { version } from '../../runtime/version.ts'
import type { ProgressStore } from '../../storage/progress-store.ts'
import type { ReplicaStore } from '../../storage/replica-store.ts'
import type { Replica } from './replica.ts'

export interface ReplicaReport {
  readonly id: string
  readonly address: string
  readonly replica: Replica
  /** Agents with an open stream. */
  readonly agents: () => number
  readonly aside: { readonly remainingMs: number }
  readonly replicas: ReplicaStore
  readonly progress: ProgressStore
  readonly clock: Clock
  readonly log: Logger
}

const everyMs = 2_000
/** A replica that has not reported for so long is down, or cut off from the database. */
export const liveReplicaMs = 15_000

/**
 * Says every few seconds that this replica lives and how far it is, until the signal aborts; then takes it out of the list, and its
 * agents are on their way to another one.
 */
export async function reportReplica (report: ReplicaReport, signal: AbortSignal): Promise<void> {
  const { id, address, replica, agents, aside, replicas, progress, clock, log } = report
  const startedAt = clock.now()
  try {
    for (;;) {
      const facts = { address, staleMs: Math.round(replica.staleMs), nudged: replica.nudged, agents: agents(), asideMs: aside.remainingMs }
      try {
        await replicas.report({ id, name: hostname(), version, startedAt, cursor: replica.cursor, facts })
      } catch (error) {
        if (isStop(error, signal)) throw error
        log.debug({ err: error }, 'this replica could not be reported')
      }
      await clock.sleep(everyMs, signal)
    }
  } finally {
    await progress.leave(id, clock.now()).catch(() => {})
    await replicas.remove(id).catch(() => {})
  }
}

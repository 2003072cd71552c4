import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isStop } from '../../runtime/tasks.ts'
import { Waiter } from '../../runtime/waiter.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { AgentProgress, ProgressState, ProgressStore, ServedPolicyVersion } from '../../storage/progress-store.ts'
import type { Cursor } from '../../storage/change-log.ts'

const flushEveryMs = 50
const retryEveryMs = 1_000

/** What is known of an agent's progress, without where it is known. */
export interface Progress {
  readonly state: ProgressState
  readonly cursor: Cursor
  readonly unservedEntryIds: readonly string[]
  /** Whether the agent follows services too. */
  readonly mesh?: boolean | undefined
  /** What it decides by, of an agent that follows policies. */
  readonly policies?: ServedPolicyVersion | undefined
}

/**
 * How far this replica's agents are: at hand here, and written to the database in batches so that any replica can say so. Lost when the
 * database is away; the next acknowledgement says it again.
 */
export class ProgressReporter {
  readonly #replicaId: string
  readonly #store: ProgressStore
  readonly #clock: Clock
  readonly #log: Logger
  readonly #due = new Map<SpiffeId, AgentProgress | { readonly leftAt: Date }>()
  readonly #listeners = new Set<() => void>()
  readonly #waiter = new Waiter()

  constructor (replicaId: string, { store, clock, log }: { readonly store: ProgressStore, readonly clock: Clock, readonly log: Logger }) {
    this.#replicaId = replicaId
    this.#store = store
    this.#clock = clock
    this.#log = log
  }

  report (agentId: SpiffeId, progress: Progress): void {
    this.#due.set(agentId, { agentId, replicaId: this.#replicaId, seenAt: this.#clock.now(), ...progress })
    this.#waiter.wake()
    for (const listener of this.#listeners) listener()
  }

  /** The agent's stream ended. */
  left (agentId: SpiffeId): void {
    const due = this.#due.get(agentId)
    // What it acknowledged at the last moment still counts.
    if (due !== undefined && 'cursor' in due) this.#due.set(agentId, { ...due, replicaId: '' })
    else this.#due.set(agentId, { leftAt: this.#clock.now() })
    this.#waiter.wake()
  }

  /** `listener` runs after something was reported here. @returns stops it */
  onReported (listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** Writes until the signal aborts. */
  async run (signal: AbortSignal): Promise<void> {
    for (;;) {
      if (this.#due.size === 0) await this.#waiter.wait(signal)
      signal.throwIfAborted()
      try {
        await this.#flush()
      } catch (error) {
        if (isStop(error, signal)) throw error
        this.#log.debug({ err: error }, 'the progress of agents could not be written')
        await this.#clock.sleep(retryEveryMs, signal)
      }
      await this.#clock.sleep(flushEveryMs, signal)
    }
  }

  async #flush (): Promise<void> {
    const due = [...this.#due]
    this.#due.clear()
    try {
      await this.#store.report(due.flatMap(([, progress]) => 'cursor' in progress ? [progress] : []))
      const left = due.filter(([, progress]) => !('cursor' in progress)).map(([agentId]) => agentId)
      if (left.length > 0) await this.#store.leave(this.#replicaId, this.#clock.now(), left)
    } catch (error) {
      for (const [agentId, progress] of due) if (!this.#due.has(agentId)) this.#due.set(agentId, progress)
      throw error
    }
  }
}

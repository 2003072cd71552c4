import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { Stores } from '../storage/datastore.ts'
import { liveReplicaMs } from './replication/report-replica.ts'
import type { Replica } from './replication/replica.ts'

export interface GoneReportersDeps {
  readonly replica: { readonly agents: Pick<Replica['agents'], 'get'>, readonly services: Pick<Replica['services'], 'reporters'> }
  readonly clock: Clock
  readonly log: Logger
}

/**
 * An agent that follows no replica keeps its endpoints for so long: its node may be well, and callers' proxies check by themselves who
 * answers.
 */
const absentKeptMs = 300_000

/** Removes endpoints whose agent will not do it: banned, evicted, expired, or away for long. */
export class GoneReporters {
  readonly #deps: GoneReportersDeps
  /** Since when this process sees an agent with no replica. An outage of the servers themselves thus counts against nobody. */
  readonly #absentSinceMs = new Map<SpiffeId, number>()

  constructor (deps: GoneReportersDeps) { this.#deps = deps }

  /** @param stores of who does the chores; `undefined`: another replica does them */
  async sweep (stores: Stores | undefined): Promise<void> {
    const reporters = [...this.#deps.replica.services.reporters()]
    if (stores === undefined || reporters.length === 0) {
      this.#absentSinceMs.clear()
      return
    }
    const { clock, log } = this.#deps
    const fallen = reporters.filter(id => !this.#stands(id))
    const absent = await this.#absent(reporters, stores)
    for (const id of this.#absentSinceMs.keys()) if (!absent.has(id)) this.#absentSinceMs.delete(id)
    const nowMs = clock.monotonicMs()
    for (const id of absent) if (!this.#absentSinceMs.has(id)) this.#absentSinceMs.set(id, nowMs)
    const away = [...this.#absentSinceMs].filter(([, sinceMs]) => nowMs - sinceMs >= absentKeptMs).map(([id]) => id)
    const gone = new Set([...fallen, ...away])
    if (gone.size === 0) return
    await stores.endpoints.replace(new Map([...gone].map(id => [id, []])))
    log.info({ agents: [...gone].slice(0, 20), count: gone.size }, 'endpoints of agents that are gone were removed')
  }

  #stands (id: SpiffeId): boolean {
    const agent = this.#deps.replica.agents.get(id)
    return agent !== undefined && !agent.banned && (agent.newExpiresAt ?? agent.expiresAt) > this.#deps.clock.now()
  }

  /** Those that follow no replica that lives. */
  async #absent (reporters: readonly SpiffeId[], { progress, replicas }: Stores): Promise<ReadonlySet<SpiffeId>> {
    const now = this.#deps.clock.now().getTime()
    const live = new Set((await replicas.list()).filter(({ seenAt }) => now - seenAt.getTime() < liveReplicaMs).map(({ id }) => id))
    const present = new Set((await progress.list(reporters)).filter(({ replicaId }) => live.has(replicaId)).map(({ agentId }) => agentId))
    return new Set(reporters.filter(id => !present.has(id)))
  }
}

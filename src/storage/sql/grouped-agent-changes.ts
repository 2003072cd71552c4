import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Clock } from '../../runtime/clock.ts'
import type { Agent } from '../../spiffe/agent.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { decodeAgent } from './agent-rows.ts'
import { differs } from './differs.ts'
import type { AgentRow } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

/** Some ten milliseconds of SQLite, which the event loop waits for. */
const mostAtOnce = 250

/** What becomes of an agent's row; throws to refuse. */
export type AgentRowChange = (row: AgentRow) => Columns
type Columns = Partial<Omit<AgentRow, 'row_id' | 'id'>>

interface Wanted {
  readonly id: SpiffeId
  readonly change: AgentRowChange
  readonly resolve: (agent: Agent) => void
  readonly reject: (error: unknown) => void
}

type Outcome = { readonly agent: Agent } | { readonly refusal: unknown }

/**
 * Changes of single agents' rows. Those that are asked for at the same time share a transaction, and with it one write to the disk and one
 * number of the log: when a fleet comes back each of its agents renews, and uses what it renewed.
 */
export class GroupedAgentChanges {
  readonly #database: SqlDatabase
  readonly #clock: Clock
  readonly #notFound: (id: SpiffeId) => Error
  #waiting: Wanted[] = []
  #writing = false

  constructor (database: SqlDatabase, clock: Clock, notFound: (id: SpiffeId) => Error) {
    this.#database = database
    this.#clock = clock
    this.#notFound = notFound
  }

  /**
   * In the order asked. What one `change` throws refuses that one alone.
   * @returns the agent as it is stored now
   */
  change (id: SpiffeId, change: AgentRowChange): Promise<Agent> {
    const { promise, resolve, reject } = Promise.withResolvers<Agent>()
    this.#waiting.push({ id, change, resolve, reject })
    if (!this.#writing) void this.#writeAll()
    return promise
  }

  async #writeAll (): Promise<void> {
    this.#writing = true
    while (this.#waiting.length > 0) {
      // Calls that have come meanwhile share the write.
      await nextTurn()
      const group = this.#waiting.splice(0, mostAtOnce)
      try {
        const outcomes = await this.#write(group)
        group.forEach(({ resolve, reject }, index) => {
          const outcome = outcomes[index] as Outcome
          if ('agent' in outcome) resolve(outcome.agent)
          else reject(outcome.refusal)
        })
      } catch (error) {
        for (const { reject } of group) reject(error)
      }
    }
    this.#writing = false
  }

  /** Reads the rows, keeps others from them, and writes what the changes make of them. */
  #write (group: readonly Wanted[]): Promise<Outcome[]> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const ids = [...new Set(group.map(({ id }) => id))]
      // In one order, so that groups of several replicas do not wait for each other.
      const rows = await this.#database.locked(trx.selectFrom('agents').selectAll().where('id', 'in', ids).orderBy('row_id')).execute()
      const current = new Map(rows.map(row => [row.id, row]))
      const changed = new Map<SpiffeId, Columns>()
      const outcomes = group.map(({ id, change }): Outcome => {
        const before = current.get(id)
        if (before === undefined) return { refusal: this.#notFound(id) }
        try {
          const columns = change(before)
          if (!differs(before, columns)) return { agent: decodeAgent(before) }
          const after = { ...before, ...columns }
          current.set(id, after)
          changed.set(id, { ...changed.get(id), ...columns })
          return { agent: decodeAgent(after) }
        } catch (refusal) {
          return { refusal }
        }
      })
      for (const [id, columns] of changed) {
        await trx.updateTable('agents').set(columns).where('id', '=', id).execute()
        changes.agent({ id })
      }
      return outcomes
    })
  }
}

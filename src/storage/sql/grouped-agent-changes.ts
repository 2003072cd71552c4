import type { Clock } from '../../runtime/clock.ts'
import type { Agent } from '../../spiffe/agent.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import { decodeAgent } from './agent-rows.ts'
import { differs } from './differs.ts'
import { GroupedWrites, type Outcome } from './grouped-writes.ts'
import type { AgentRow } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

/** What becomes of an agent's row; throws to refuse. */
export type AgentRowChange = (row: AgentRow) => Columns
type Columns = Partial<Omit<AgentRow, 'row_id' | 'id'>>

interface Wanted {
  readonly id: SpiffeId
  readonly change: AgentRowChange
}

/** Changes of single agents' rows: an agent renews, and uses what it renewed. */
export class GroupedAgentChanges {
  readonly #database: SqlDatabase
  readonly #clock: Clock
  readonly #notFound: (id: SpiffeId) => Error
  readonly #writes = new GroupedWrites<Wanted, Agent>(group => this.#write(group))

  constructor (database: SqlDatabase, clock: Clock, notFound: (id: SpiffeId) => Error) {
    this.#database = database
    this.#clock = clock
    this.#notFound = notFound
  }

  /**
   * In the order asked. What one `change` throws refuses that one alone.
   * @returns the agent as it is stored now
   */
  change (id: SpiffeId, change: AgentRowChange): Promise<Agent> { return this.#writes.ask({ id, change }) }

  /** Reads the rows, keeps others from them, and writes what the changes make of them. */
  #write (group: readonly Wanted[]): Promise<Array<Outcome<Agent>>> {
    return this.#database.change(this.#clock.now(), async (trx, changes) => {
      const ids = [...new Set(group.map(({ id }) => id))]
      // In one order, so that groups of several replicas do not wait for each other.
      const rows = await this.#database.locked(trx.selectFrom('agents').selectAll().where('id', 'in', ids).orderBy('row_id')).execute()
      const current = new Map(rows.map(row => [row.id, row]))
      const changed = new Map<SpiffeId, Columns>()
      const outcomes = group.map(({ id, change }): Outcome<Agent> => {
        const before = current.get(id)
        if (before === undefined) return { refusal: this.#notFound(id) }
        try {
          const columns = change(before)
          if (!differs(before, columns)) return { result: decodeAgent(before) }
          const after = { ...before, ...columns }
          current.set(id, after)
          changed.set(id, { ...changed.get(id), ...columns })
          return { result: decodeAgent(after) }
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

import type { Clock } from '../../runtime/clock.ts'
import type { Replica, ReplicaStore } from '../replica-store.ts'
import { DatabaseTime } from './database-time.ts'
import type { ReplicaRow } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

/** When replicas were seen the database notes by its own clock, and whoever asks is told by his: replicas' clocks differ. */
export class SqlReplicaStore implements ReplicaStore {
  readonly #database: SqlDatabase
  readonly #time: DatabaseTime

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#time = new DatabaseTime(database, clock)
  }

  async report (replica: Omit<Replica, 'seenAt'>): Promise<void> {
    const { id, ...facts } = encodeReplica(replica)
    const columns = { ...facts, seen_at: this.#time.now() }
    await this.#database.transaction(trx => trx.insertInto('replicas').values({ id, ...columns })
      .onConflict(conflict => conflict.column('id').doUpdateSet(columns)).execute())
  }

  async list (): Promise<readonly Replica[]> {
    const rows = await this.#database.read(db =>
      db.selectFrom('replicas').selectAll().select(this.#time.now().as('now')).orderBy('started_at').orderBy('id').execute())
    return rows.map(row => decodeReplica(row, this.#time.seenAt(row)))
  }

  async remove (id: string): Promise<void> {
    await this.#database.transaction(trx => trx.deleteFrom('replicas').where('id', '=', id).execute())
  }

  async prune (before: Date): Promise<void> {
    await this.#database.transaction(trx =>
      trx.deleteFrom('replicas').where('seen_at', '<', this.#time.of(before)).execute())
  }
}

function encodeReplica ({ cursor, facts, startedAt, ...replica }: Omit<Replica, 'seenAt'>): Omit<ReplicaRow, 'seen_at'> {
  return {
    ...replica, started_at: startedAt.getTime(), ...cursor, facts: JSON.stringify(facts)
  }
}

function decodeReplica (row: ReplicaRow, seenAt: Date): Replica {
  return {
    id: row.id,
    name: row.name,
    version: row.version,
    startedAt: new Date(row.started_at),
    seenAt,
    cursor: { epoch: row.epoch, number: row.number },
    facts: JSON.parse(row.facts) as Record<string, unknown>
  }
}

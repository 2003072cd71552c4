import type { Clock } from '../../runtime/clock.ts'
import type { Replica, ReplicaStore } from '../replica-store.ts'
import type { ReplicaRow } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

export class SqlReplicaStore implements ReplicaStore {
  readonly #database: SqlDatabase
  readonly #clock: Clock

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  async report (replica: Omit<Replica, 'seenAt'>): Promise<void> {
    const { id, ...columns } = encodeReplica({ ...replica, seenAt: this.#clock.now() })
    await this.#database.transaction(trx => trx.insertInto('replicas').values({ id, ...columns })
      .onConflict(conflict => conflict.column('id').doUpdateSet(columns)).execute())
  }

  async list (): Promise<readonly Replica[]> {
    const rows = await this.#database.read(db => db.selectFrom('replicas').selectAll().orderBy('started_at').orderBy('id').execute())
    return rows.map(decodeReplica)
  }

  async remove (id: string): Promise<void> {
    await this.#database.transaction(trx => trx.deleteFrom('replicas').where('id', '=', id).execute())
  }

  async prune (before: Date): Promise<void> {
    await this.#database.transaction(trx => trx.deleteFrom('replicas').where('seen_at', '<', before.getTime()).execute())
  }
}

function encodeReplica ({ cursor, facts, startedAt, seenAt, ...replica }: Replica): ReplicaRow {
  return {
    ...replica, started_at: startedAt.getTime(), seen_at: seenAt.getTime(), ...cursor, facts: JSON.stringify(facts)
  }
}

function decodeReplica (row: ReplicaRow): Replica {
  return {
    id: row.id,
    name: row.name,
    version: row.version,
    startedAt: new Date(row.started_at),
    seenAt: new Date(row.seen_at),
    cursor: { epoch: row.epoch, number: row.number },
    facts: JSON.parse(row.facts) as Record<string, unknown>
  }
}

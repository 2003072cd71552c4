import type { Kysely } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import type { SpiffeId } from '../../spiffe/spiffe-id.ts'
import type { AgentProgress, ProgressState, ProgressStore } from '../progress-store.ts'
import { chunks, idsPerStatement, rowsPerInsert } from './chunks.ts'
import { DatabaseTime } from './database-time.ts'
import type { ProgressRow, Schema } from './schema.ts'
import type { SqlDatabase } from './sql-database.ts'

/** When agents were seen is kept in the database's time, as of replicas. */
export class SqlProgressStore implements ProgressStore {
  readonly #database: SqlDatabase
  readonly #time: DatabaseTime

  constructor (database: SqlDatabase, clock: Clock) {
    this.#database = database
    this.#time = new DatabaseTime(database, clock)
  }

  async report (progress: readonly AgentProgress[]): Promise<void> {
    // In one order, so that two replicas' statements never wait for each other in a circle.
    const rows = progress.map(one => ({ ...encodeProgress(one), seen_at: this.#time.of(one.seenAt) }))
      .toSorted((a, b) => a.agent_id < b.agent_id ? -1 : 1)
    for (const chunk of chunks(rows, rowsPerInsert)) {
      await this.#database.transaction(trx => trx.insertInto('agent_progress').values(chunk)
        .onConflict(conflict => conflict.column('agent_id').doUpdateSet(eb => ({
          replica_id: eb.ref('excluded.replica_id'),
          state: eb.ref('excluded.state'),
          epoch: eb.ref('excluded.epoch'),
          number: eb.ref('excluded.number'),
          unserved: eb.ref('excluded.unserved'),
          seen_at: eb.ref('excluded.seen_at'),
          mesh: eb.ref('excluded.mesh'),
          policy_version: eb.ref('excluded.policy_version'),
          policy_refusal: eb.ref('excluded.policy_refusal')
        }))).execute())
    }
  }

  async leave (replicaId: string, seenAt: Date, agentIds?: readonly SpiffeId[]): Promise<void> {
    const gone = { replica_id: '', seen_at: this.#time.of(seenAt) }
    if (agentIds === undefined) {
      await this.#database.transaction(trx =>
        trx.updateTable('agent_progress').set(gone).where('replica_id', '=', replicaId).execute())
      return
    }
    for (const chunk of chunks(agentIds.toSorted(), rowsPerInsert)) {
      await this.#database.transaction(trx => trx.updateTable('agent_progress').set(gone)
        .where('replica_id', '=', replicaId).where('agent_id', 'in', chunk).execute())
    }
  }

  async list (agentIds?: readonly SpiffeId[]): Promise<readonly AgentProgress[]> {
    if (agentIds === undefined) {
      const rows = await this.#database.read(db => this.#rows(db).orderBy('agent_id').execute())
      return rows.map(row => decodeProgress(row, this.#time.seenAt(row)))
    }
    const found: AgentProgress[] = []
    for (const chunk of chunks(agentIds, idsPerStatement)) {
      const rows = await this.#database.read(db => this.#rows(db).where('agent_id', 'in', chunk).execute())
      found.push(...rows.map(row => decodeProgress(row, this.#time.seenAt(row))))
    }
    return found
  }

  async prune (before: Date): Promise<void> {
    await this.#database.transaction(trx => trx.deleteFrom('agent_progress').where('seen_at', '<', this.#time.of(before))
      .where('agent_id', 'not in', eb => eb.selectFrom('agents').select('id')).execute())
  }

  #rows (db: Kysely<Schema>) {
    return db.selectFrom('agent_progress').selectAll().select(this.#time.now().as('now'))
  }
}

function encodeProgress (
  { agentId, replicaId, state, cursor, unservedEntryIds, mesh, policies }: AgentProgress
): Omit<ProgressRow, 'seen_at'> {
  return {
    agent_id: agentId, replica_id: replicaId, state, ...cursor, unserved: JSON.stringify(unservedEntryIds),
    mesh: Number(mesh === true),
    policy_version: policies?.version ?? null,
    policy_refusal: policies?.refusal ?? ''
  }
}

function decodeProgress (row: ProgressRow, seenAt: Date): AgentProgress {
  return {
    agentId: row.agent_id as SpiffeId,
    replicaId: row.replica_id,
    state: row.state as ProgressState,
    cursor: { epoch: row.epoch, number: row.number },
    unservedEntryIds: JSON.parse(row.unserved) as string[],
    seenAt,
    ...row.mesh === 0 ? {} : { mesh: true },
    ...row.policy_version === null ? {} : { policies: { version: row.policy_version, refusal: row.policy_refusal } }
  }
}

import { sql, type Kysely } from 'kysely'
import type { Schema } from '../sql/schema.ts'

interface Settings {
  readonly fsync: string
  readonly synchronous_commit: string
  readonly standby_names: string
  /** Standbys that commits wait for; `null` where this role may not see. */
  readonly standbys: number | null
}

/** How PostgreSQL could lose a change that it had confirmed, or keep it waiting; a sentence each, with the way out. */
export async function durabilityWarnings (db: Kysely<Schema>): Promise<string[]> {
  // Of other roles' connections only members of pg_read_all_stats see more than that they exist.
  const { rows } = await sql<Settings>`select current_setting('fsync') as fsync,
    current_setting('synchronous_commit') as synchronous_commit, current_setting('synchronous_standby_names') as standby_names,
    case when pg_has_role(current_user, 'pg_read_all_stats', 'usage') then
      (select count(*)::integer from pg_stat_replication where sync_state in ('sync', 'quorum')) end as standbys`.execute(db)
  const settings = rows[0]
  if (settings === undefined) return []
  const { fsync, synchronous_commit: commit, standby_names: names, standbys } = settings
  const found = []
  if (fsync === 'off') {
    found.push('PostgreSQL does not write to the disk before it confirms (fsync = off): a crash of its machine can destroy the database; ' +
      'set fsync = on')
  }
  if (commit === 'off') {
    found.push('PostgreSQL confirms changes before they are on the disk (synchronous_commit = off): a crash loses the last ones; ' +
      'set synchronous_commit = on')
  }
  if (names === '') {
    found.push('PostgreSQL has no synchronous standby: if its machine is lost, so are the last changes; set synchronous_standby_names ' +
      '(a service that replicates its storage needs none)')
  } else if (commit === 'local') {
    found.push('PostgreSQL does not wait for its synchronous standby (synchronous_commit = local): a fail-over loses the last changes; ' +
      'set synchronous_commit = on')
  } else if (standbys === 0) {
    found.push('no synchronous standby of PostgreSQL is connected: changes wait for one, and fail; ' +
      'start it, or take it out of synchronous_standby_names')
  }
  return found
}

import { randomUUID } from 'node:crypto'
import { sql, type Transaction } from 'kysely'
import { migrateWithin } from '../migrations/migrate.ts'
import type { Schema } from '../sql/schema.ts'
import { requireIdle, type OpenDatabase } from './open-database.ts'
import { countRows, emptyTables } from './table-rows.ts'
import { tables } from './tables.ts'

/**
 * Brings the schema up to date, and makes sure that nobody else uses the database until the transaction ends.
 * @throws {SpiffeError} `datastore_in_use`, `datastore_newer`
 */
export async function claim (trx: Transaction<Schema>, target: OpenDatabase): Promise<void> {
  if (target.database.kind === 'postgres') await sql`set local lock_timeout = '10s'`.execute(trx)
  await migrateWithin(trx, target.database.kind)
  await requireIdle(trx, target)
  if (target.database.kind === 'sqlite') return
  await sql`lock table ${sql.join([...tables, ...unsaved].map(({ name }) => sql.table(name)))} in access exclusive mode`.execute(trx)
  await requireIdle(trx, target)
}

/** What belongs to one life of a database. */
const unsaved = (['log_head', 'change_log', 'replicas', 'agent_progress', 'partner_states', 'service_endpoints'] as const)
  .map(name => ({ name }))

/** Whether there is nothing to lose. */
export async function isEmpty (trx: Transaction<Schema>): Promise<boolean> {
  for (const table of tables) if (table.role !== 'leases' && await countRows(trx, table) > 0) return false
  return true
}

/** The name that a database keeps through backups, restores and moves: that of its first epoch. */
export function birthOf (epoch: string): string { return epoch.split('+')[0] as string }

export interface NewLife {
  readonly kind: 'sqlite' | 'postgres'
  /** Of the epoch before. */
  readonly epoch: string
  readonly number: number
  readonly leases: ReadonlyArray<Schema['leases']>
  readonly now: Date
}

/**
 * Begins a new epoch of the log, so that whoever followed the old one reads everything anew. No lease is held, and their tokens go on above
 * any that was ever given out: a process that was paused through all this finds its token superseded.
 */
export async function beginNewLife (trx: Transaction<Schema>, { kind, epoch, number, leases, now }: NewLife): Promise<string> {
  const held = [...leases, ...await trx.selectFrom('leases').selectAll().execute()]
  await emptyTables(trx, kind, ['leases', ...unsaved.map(({ name }) => name)])
  const begun = `${birthOf(epoch)}+${randomUUID()}`
  await trx.insertInto('log_head').values({ epoch: begun, number, compacted: number }).execute()
  for (const name of new Set(held.map(lease => lease.name))) {
    const token = Math.max(now.getTime(), ...held.map(lease => lease.token + 1))
    await trx.insertInto('leases').values({ name, holder: '', token, expires_at: 0 }).execute()
  }
  return begun
}

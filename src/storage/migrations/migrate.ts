import { sql, type Transaction } from 'kysely'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Schema } from '../sql/schema.ts'
import type { SqlDatabase } from '../sql/sql-database.ts'
import { initial } from './0001-initial.ts'
import { replicas } from './0002-replicas.ts'
import { revocations } from './0003-revocations.ts'
import { services } from './0004-services.ts'
import { policies } from './0005-policies.ts'
import { federation } from './0006-federation.ts'
import { partnerStates } from './0007-partner-states.ts'
import type { ColumnTypes, Migration } from './migration.ts'

const migrations: readonly Migration[] = [initial, replicas, revocations, services, policies, federation, partnerStates]

/** The schema that this version works with. */
export const newestSchema = migrations.at(-1)?.number ?? 0

const columnTypes: Readonly<Record<SqlDatabase['kind'], ColumnTypes>> = {
  // autoincrement: a row id is never used twice, so a page token stays true after deletions.
  sqlite: {
    rowId: 'integer primary key autoincrement', int64: 'integer', bytes: 'blob', table: ' strict', keyedTable: ' strict, without rowid'
  },
  postgres: { rowId: 'bigserial primary key', int64: 'bigint', bytes: 'bytea', table: '', keyedTable: '' }
}

/** Any number, as long as all servers of all versions use the same. */
const advisoryLock = 4_157_351_001

/**
 * Brings the schema up to date in one transaction, while no other server does.
 * @param mayMigrate otherwise a schema is made where there is none, and none is changed
 * @throws {SpiffeError} `datastore_newer` when a newer version has migrated it, `datastore_older` when it may not be migrated
 */
export async function migrate (database: SqlDatabase, mayMigrate = true): Promise<void> {
  await database.transaction(async trx => {
    const schema = mayMigrate ? newestSchema : await readSchema(trx, database.kind)
    if (schema !== 0 && schema < newestSchema) {
      throw new SpiffeError('datastore_older', `the database has schema ${schema}, this version works with ${newestSchema}, and ` +
        'disable_migration keeps it from being changed: start one server without it')
    }
    await migrateWithin(trx, database.kind)
  })
}

/** The same within a transaction; until that ends no server starts on the database. */
export async function migrateWithin (trx: Transaction<Schema>, kind: SqlDatabase['kind']): Promise<void> {
  if (kind === 'postgres') await sql`select pg_advisory_xact_lock(${sql.lit(advisoryLock)})`.execute(trx)
  await sql`create table if not exists schema_migrations (number integer primary key, name text not null)`.execute(trx)
  const last = await lastMigration(trx)
  for (const migration of migrations.filter(({ number }) => number > last)) {
    await migration.up(trx, columnTypes[kind])
    await trx.insertInto('schema_migrations').values({ number: migration.number, name: migration.name }).execute()
  }
}

/** The schema as it is, 0 where there is none. @throws {SpiffeError} `datastore_newer` */
export async function readSchema (trx: Transaction<Schema>, kind: SqlDatabase['kind']): Promise<number> {
  const found = kind === 'postgres'
    ? sql<{ found: number }>`select count(to_regclass('schema_migrations')) as found`
    : sql<{ found: number }>`select count(*) as found from sqlite_schema where type = 'table' and name = 'schema_migrations'`
  const { rows } = await found.execute(trx)
  return rows[0]?.found === 1 ? await lastMigration(trx) : 0
}

async function lastMigration (trx: Transaction<Schema>): Promise<number> {
  const done = await trx.selectFrom('schema_migrations').select(['number', 'name']).orderBy('number').execute()
  const newer = done.find(({ number }) => number > newestSchema)
  if (newer !== undefined) {
    throw new SpiffeError('datastore_newer',
      `the database has schema ${newer.number} (${newer.name}), this version knows schemas up to ${newestSchema}`)
  }
  return done.at(-1)?.number ?? 0
}

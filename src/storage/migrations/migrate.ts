import { sql } from 'kysely'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { SqlDatabase } from '../sql/sql-database.ts'
import { initial } from './0001-initial.ts'
import { replicas } from './0002-replicas.ts'
import type { ColumnTypes, Migration } from './migration.ts'

const migrations: readonly Migration[] = [initial, replicas]

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
 * @throws {SpiffeError} `datastore_newer` when a newer version has migrated it
 */
export async function migrate (database: SqlDatabase): Promise<void> {
  await database.transaction(async trx => {
    if (database.kind === 'postgres') await sql`select pg_advisory_xact_lock(${sql.lit(advisoryLock)})`.execute(trx)
    await sql`create table if not exists schema_migrations (number integer primary key, name text not null)`.execute(trx)
    const done = await trx.selectFrom('schema_migrations').select(['number', 'name']).orderBy('number').execute()
    const newest = migrations.at(-1)?.number ?? 0
    const newer = done.find(({ number }) => number > newest)
    if (newer !== undefined) {
      throw new SpiffeError('datastore_newer',
        `the database has schema ${newer.number} (${newer.name}), this version knows schemas up to ${newest}`)
    }
    const last = done.at(-1)?.number ?? 0
    for (const migration of migrations.filter(({ number }) => number > last)) {
      await migration.up(trx, columnTypes[database.kind])
      await trx.insertInto('schema_migrations').values({ number: migration.number, name: migration.name }).execute()
    }
  })
}

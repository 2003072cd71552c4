import { CompiledQuery, Kysely, PostgresDialect, sql } from 'kysely'
import pg from 'pg'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Datastore } from '../datastore.ts'
import type { DatastoreDeps } from '../open-datastore.ts'
import type { Schema } from '../sql/schema.ts'
import { openSqlDatastore } from '../sql/sql-datastore.ts'
import { SqlDatabase } from '../sql/sql-database.ts'
import { isPostgresConflict, translatePostgresError } from './postgres-errors.ts'
import { PostgresNudges } from './postgres-nudges.ts'
import { openPostgresPool, type PoolLimits } from './postgres-pool.ts'

const oldestServer = 13

/** @throws {SpiffeError} as `openDatastore` */
export async function openPostgres (url: string, { clock, log, directUrl = url }: DatastoreDeps): Promise<Datastore> {
  // Nothing changes before the stores are on it.
  const onChange = () => nudges.send()
  const { database, db, target } = await openPostgresDatabase(url, { log, onChange })
  const nudges = new PostgresNudges({
    openListener: () => new pg.Client({
      connectionString: directUrl, fallback_application_name: 'assay-listen', connectionTimeoutMillis: 5_000, keepAlive: true
    }),
    execute: async (text, payload) => { await db.executeQuery(CompiledQuery.raw(text, [payload])) },
    clock,
    log
  })
  const store = await openSqlDatastore(database, nudges, clock)
  log.debug({ database: target }, 'opened the PostgreSQL datastore')
  return store
}

export interface OpenPostgres {
  readonly database: SqlDatabase
  readonly db: Kysely<Schema>
  /** What to call it; without a password. */
  readonly target: string
}

export interface OpenPostgresOptions {
  readonly log: Logger
  readonly onChange?: () => void
  readonly limits?: PoolLimits
}

/** The database as it is: nothing is migrated. @throws {SpiffeError} as `openDatastore` */
export async function openPostgresDatabase (url: string, { log, onChange = () => {}, limits }: OpenPostgresOptions): Promise<OpenPostgres> {
  const target = describeTarget(url)
  const db = new Kysely<Schema>({ dialect: new PostgresDialect({ pool: openPostgresPool(url, log, limits) }) })
  const database = new SqlDatabase({
    kind: 'postgres',
    db,
    translate: error => translatePostgresError(error, target),
    isConflict: isPostgresConflict,
    onChange
  })
  try {
    await checkServer(database, target)
  } catch (error) {
    await database.close()
    throw error
  }
  return { database, db, target }
}

async function checkServer (database: SqlDatabase, target: string): Promise<void> {
  const { rows } = await database.read(db =>
    sql<{ version: number, encoding: string }>`select current_setting('server_version_num')::integer as version,
      current_setting('server_encoding') as encoding`.execute(db))
  const { version = 0, encoding = '' } = rows[0] ?? {}
  if (version < oldestServer * 10_000) {
    throw new SpiffeError('config_invalid', `${target} runs PostgreSQL ${Math.floor(version / 10_000)}, at least ${oldestServer} is needed`)
  }
  if (encoding !== 'UTF8') throw new SpiffeError('config_invalid', `${target} has the encoding ${encoding}, UTF8 is needed`)
}

/** Where the address leads, without its password. @throws {SpiffeError} `config_invalid` */
function describeTarget (url: string): string {
  try {
    const { user, host, port, database } = new pg.Client({ connectionString: url })
    return `PostgreSQL database ${database ?? ''} at ${host}:${port} as ${user ?? ''}`
  } catch {
    // The lower error may quote the address, password and all: it is not passed on.
    throw new SpiffeError('config_invalid', 'the PostgreSQL address cannot be read; write postgres://user:password@host:5432/database')
  }
}

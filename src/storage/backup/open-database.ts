import { sql, type Transaction } from 'kysely'
import { systemClock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { codeOf, SpiffeError } from '../../spiffe/errors.ts'
import { parseDatastoreUrl } from '../datastore-url.ts'
import { newestSchema, readSchema } from '../migrations/migrate.ts'
import { openPostgresDatabase } from '../postgres/open-postgres.ts'
import type { PostgresAddress } from '../postgres/postgres-address.ts'
import type { Schema } from '../sql/schema.ts'
import type { SqlDatabase } from '../sql/sql-database.ts'
import { FileLock } from '../sqlite/file-lock.ts'
import { openSqliteDatabase, openSqliteReadOnly } from '../sqlite/open-sqlite.ts'

/** A database as it stands, for backup and restore. */
export interface OpenDatabase extends AsyncDisposable {
  readonly database: SqlDatabase
  /** A path, or what to call the database without its password. */
  readonly name: string
}

/** Single statements may touch a million rows. */
const longLimits = { connections: 2, statementTimeoutMs: 1_800_000, answerTimeoutMs: 1_810_000 }
/** A server that was killed is seen for as long as this; one that runs reports every two seconds. */
const livesForMs = 15_000

/**
 * Opens a database to read it. Servers may go on using it.
 * @throws {SpiffeError} `file_unusable`, `datastore_unavailable`, `datastore_corrupt`, `config_invalid`
 */
export async function openToRead (url: string, log: Logger): Promise<OpenDatabase> {
  const target = parseDatastoreUrl(url)
  if (target.kind === 'postgres') return await openPostgresToUse(target.address, log)
  const { database, file } = openSqliteReadOnly(target.file)
  return { database, name: file, [Symbol.asyncDispose]: () => database.close() }
}

/**
 * Opens a database to read it for the last time: on SQLite no server runs until it is closed.
 * @throws {SpiffeError} as `openToRead`, `datastore_in_use`
 */
export async function openToLeave (url: string, log: Logger): Promise<OpenDatabase> {
  const source = await openToRead(url, log)
  if (source.database.kind === 'postgres') return source
  await using stack = new AsyncDisposableStack()
  stack.use(source)
  const lock = takeLock(() => FileLock.take(source.name), source.name)
  const moved = stack.move()
  return {
    ...source,
    async [Symbol.asyncDispose] () {
      await moved.disposeAsync()
      lock[Symbol.dispose]()
    }
  }
}

/**
 * Opens a database to overwrite it; an embedded one is made if need be, and no server runs on it until it is closed.
 * @throws {SpiffeError} as `openToRead`, `datastore_in_use`
 */
export async function openToOverwrite (url: string, log: Logger): Promise<OpenDatabase> {
  const target = parseDatastoreUrl(url)
  if (target.kind === 'postgres') return await openPostgresToUse(target.address, log)
  const { database, file, lock } = takeLock(() => openSqliteDatabase(target.file), target.file)
  return {
    database,
    name: file,
    async [Symbol.asyncDispose] () {
      await database.close()
      lock[Symbol.dispose]()
    }
  }
}

/** @throws {SpiffeError} `datastore_older` unless this version's schema is there, `datastore_newer` */
export async function requireSchema (trx: Transaction<Schema>, { database, name }: OpenDatabase): Promise<void> {
  const schema = await readSchema(trx, database.kind)
  if (schema === newestSchema) return
  throw new SpiffeError('datastore_older', schema === 0
    ? `${name} holds nothing of Assay yet`
    : `${name} has schema ${schema}, this version reads schema ${newestSchema}`)
}

/** @throws {SpiffeError} `datastore_in_use` while servers report that they run on it */
export async function requireIdle (trx: Transaction<Schema>, { database, name }: OpenDatabase): Promise<void> {
  // What a SQLite file says of its servers is old: its lock is free.
  if (database.kind === 'sqlite') return
  const { rows } = await sql<{ name: string }>`select name from replicas
    where seen_at > extract(epoch from clock_timestamp()) * 1000 - ${sql.lit(livesForMs)} order by name`.execute(trx)
  if (rows.length === 0) return
  throw new SpiffeError('datastore_in_use',
    `${name} is in use by ${rows.length === 1 ? 'a server' : `${rows.length} servers`} on ${rows.map(row => row.name).join(', ')}; ` +
    `one that was killed counts for ${livesForMs / 1000} s`, { details: { servers: rows.map(row => row.name) } })
}

async function openPostgresToUse (address: PostgresAddress, log: Logger): Promise<OpenDatabase> {
  const { database, target } = await openPostgresDatabase(address, { clock: systemClock, log, poolLimits: longLimits })
  return { database, name: target, [Symbol.asyncDispose]: () => database.close() }
}

function takeLock<T> (take: () => T, file: string): T {
  try {
    return take()
  } catch (error) {
    if (codeOf(error) !== 'datastore_locked') throw error
    throw new SpiffeError('datastore_in_use', `${file} is in use by a server`, { cause: error })
  }
}

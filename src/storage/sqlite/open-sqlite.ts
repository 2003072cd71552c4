import { existsSync, realpathSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Kysely } from 'kysely'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Datastore } from '../datastore.ts'
import { LocalNudges } from '../nudges.ts'
import type { DatastoreDeps } from '../open-datastore.ts'
import type { Schema } from '../sql/schema.ts'
import { openSqlDatastore } from '../sql/sql-datastore.ts'
import { SqlDatabase } from '../sql/sql-database.ts'
import { FileLock } from './file-lock.ts'
import { createPrivateFile } from './private-file.ts'
import { sqliteDialect } from './sqlite-dialect.ts'
import { translateSqliteError } from './sqlite-errors.ts'

/** `pragma application_id`, "ASSY": tells our files from those of other programs. */
const applicationId = 0x41_53_53_59
/** How long to wait for a backup tool or a shell that has the file locked. */
const busyTimeoutMs = 5_000
/** Keeps creation flat: indexes of 100 000 entries fit. Used as far as the database is large. */
const cacheKiB = 32_768
/** Of 4 KiB; a longer log writes pages that many commits touch once. */
const checkpointPages = 4_000

/** @param path absolute @throws {SpiffeError} as `openDatastore` */
export async function openSqlite (path: string, { clock, log, migrate }: DatastoreDeps): Promise<Datastore> {
  const nudges = new LocalNudges()
  const { database, file, lock } = openSqliteDatabase(path, () => nudges.send())
  try {
    const store = await openSqlDatastore(database, nudges, clock, migrate)
    log.debug({ file }, 'opened the SQLite datastore')
    const close = async () => {
      await store[Symbol.asyncDispose]()
      lock[Symbol.dispose]()
    }
    return { ...store, [Symbol.asyncDispose]: close }
  } catch (error) {
    lock[Symbol.dispose]()
    throw error
  }
}

export interface OpenSqlite {
  readonly database: SqlDatabase
  /** Its real path. */
  readonly file: string
  /** To be given up after the database was closed. */
  readonly lock: FileLock
}

/** The file as it is, made if need be, and locked: nothing is migrated. @throws {SpiffeError} as `openDatastore` */
export function openSqliteDatabase (path: string, onChange?: () => void): OpenSqlite {
  createPrivateFile(path)
  const file = realPath(path)
  const lock = FileLock.take(file)
  try {
    return { database: databaseOn(openFile(file), file, { onChange }), file, lock }
  } catch (error) {
    lock[Symbol.dispose]()
    throw error
  }
}

/**
 * A second connection to a file that a server may be using: it sees one state of it for as long as a transaction lasts, keeps nobody from
 * writing and cannot write.
 * @throws {SpiffeError} `file_unusable` when there is no such file, `datastore_corrupt`, `datastore_unavailable`
 */
export function openSqliteReadOnly (path: string): Omit<OpenSqlite, 'lock'> {
  if (!existsSync(path)) throw new SpiffeError('file_unusable', `there is no database ${path}`)
  const file = realPath(path)
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(file, { timeout: busyTimeoutMs, readOnly: true, defensive: true })
    checkOwner(database, file)
    database.exec('pragma trusted_schema = off; pragma cell_size_check = on')
    return { database: databaseOn(database, file, { readOnly: true }), file }
  } catch (error) {
    database?.close()
    throw translateSqliteError(error, file)
  }
}

interface Use { readonly readOnly?: boolean, readonly onChange?: (() => void) | undefined }

function databaseOn (database: DatabaseSync, file: string, { readOnly = false, onChange = () => {} }: Use): SqlDatabase {
  return new SqlDatabase({
    kind: 'sqlite',
    db: new Kysely<Schema>({ dialect: sqliteDialect(database, { readOnly }) }),
    translate: error => translateSqliteError(error, file),
    isConflict: () => false,
    isLost: () => false,
    isOutcomeUnknown: () => false,
    onChange
  })
}

/** Two names of one file must share one lock. */
function realPath (path: string): string {
  return existsSync(path) ? realpathSync(path) : join(realpathSync(dirname(path)), basename(path))
}

function openFile (file: string): DatabaseSync {
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(file, { timeout: busyTimeoutMs, enableForeignKeyConstraints: true, defensive: true })
    checkOwner(database, file)
    database.exec(`
      pragma journal_mode = wal;
      pragma synchronous = full;
      pragma cache_size = -${cacheKiB};
      pragma wal_autocheckpoint = ${checkpointPages};
      pragma trusted_schema = off;
      pragma cell_size_check = on;
      pragma application_id = ${applicationId};
    `)
    return database
  } catch (error) {
    database?.close()
    throw translateSqliteError(error, file)
  }
}

function checkOwner (database: DatabaseSync, file: string): void {
  const id = database.prepare('pragma application_id').get()?.application_id
  const tables = database.prepare('select count(*) as count from sqlite_schema').get()?.count
  if (id === applicationId || (id === 0 && tables === 0)) return
  throw new SpiffeError('datastore_corrupt', `${file} is the database of another program`)
}

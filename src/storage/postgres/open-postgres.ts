import { CompiledQuery, Kysely, PostgresDialect, sql } from 'kysely'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { Datastore } from '../datastore.ts'
import type { DatastoreDeps } from '../open-datastore.ts'
import type { Schema } from '../sql/schema.ts'
import { openSqlDatastore } from '../sql/sql-datastore.ts'
import { SqlDatabase } from '../sql/sql-database.ts'
import { describeAddress, parsePostgresAddress, type PostgresAddress } from './postgres-address.ts'
import { PostgresConnector } from './postgres-connector.ts'
import { durabilityWarnings } from './postgres-durability.ts'
import { isPostgresConflict, isPostgresDisconnect, isPostgresOutcomeUnknown, translatePostgresError } from './postgres-errors.ts'
import { PostgresNudges } from './postgres-nudges.ts'
import { ConnectionPool, usualPoolLimits } from './postgres-pool.ts'
import { readPostgresTls } from './postgres-tls.ts'
import { Timelines } from './timeline.ts'

const oldestServer = 13

/** @throws {SpiffeError} as `openDatastore` */
export async function openPostgres (
  address: PostgresAddress, { clock, log, directUrl, poolLimits, migrate }: DatastoreDeps
): Promise<Datastore> {
  // Nothing changes before the stores are on it.
  const onChange = () => nudges.send()
  const { database, db, target, connector, openConnector } = await openPostgresDatabase(address, { clock, log, poolLimits, onChange })
  const direct = directUrl === undefined ? connector : openConnector(parsePostgresAddress(directUrl))
  const nudges = new PostgresNudges({
    openListener: () => direct.connect('assay-listen'),
    execute: async (text, payload) => { await db.executeQuery(CompiledQuery.raw(text, [payload])) },
    clock,
    log
  })
  try {
    if (directUrl !== undefined) await checkDirect(direct, database)
  } catch (error) {
    await database.close()
    throw error
  }
  const store = await openSqlDatastore(database, nudges, clock, migrate)
  log.debug({ database: target }, 'opened the PostgreSQL datastore')
  return {
    ...store,
    warnings: async () => [...transportWarnings(address), ...await database.read(durabilityWarnings)]
  }
}

export interface OpenPostgres {
  readonly database: SqlDatabase
  readonly db: Kysely<Schema>
  /** What to call it; without a password. */
  readonly target: string
  readonly connector: PostgresConnector
  /** By another address of the same database. */
  readonly openConnector: (address: PostgresAddress) => PostgresConnector
}

export interface OpenPostgresOptions extends Omit<DatastoreDeps, 'directUrl' | 'migrate'> {
  readonly onChange?: () => void
}

/** The database as it is: nothing is migrated. @throws {SpiffeError} as `openDatastore` */
export async function openPostgresDatabase (
  address: PostgresAddress, { clock, log, poolLimits, onChange = () => {} }: OpenPostgresOptions
): Promise<OpenPostgres> {
  const target = describeAddress(address)
  const limits = { ...usualPoolLimits, ...poolLimits }
  const timelines = new Timelines()
  const openConnector = (address: PostgresAddress) => new PostgresConnector(address, limits, { clock, log, timelines })
  // While it runs, a file that cannot be read makes the database unavailable; at the start it is a mistake to name.
  if (address.tls !== undefined) await readPostgresTls(address.tls)
  const connector = openConnector(address)
  const db = new Kysely<Schema>({ dialect: new PostgresDialect({ pool: new ConnectionPool({ connector, limits, clock, log }) }) })
  const database = new SqlDatabase({
    kind: 'postgres',
    db,
    translate: error => translatePostgresError(error, target),
    isConflict: isPostgresConflict,
    isLost: isPostgresDisconnect,
    isOutcomeUnknown: isPostgresOutcomeUnknown,
    onChange
  })
  try {
    await checkServer(database, target)
  } catch (error) {
    await database.close()
    throw error
  }
  return { database, db, target, connector, openConnector }
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

/** A cluster by its system identifier, in it a database by its oid: a pooler may call it by another name. */
const homeSql = `select system_identifier::text || '/' || (select oid from pg_database where datname = current_database()) as home,
  current_database() as name from pg_control_system()`

/**
 * Nudges sent in one database are never heard in another. An address that cannot be reached may be right all the same.
 * @throws {SpiffeError} `config_invalid`
 */
async function checkDirect (direct: PostgresConnector, database: SqlDatabase): Promise<void> {
  let client
  try {
    client = await direct.connect('assay-listen')
  } catch {
    return
  }
  try {
    const { rows: [there] } = await client.query<{ home: string, name: string }>(homeSql)
    const { rows: [here] } = await database.read(db => db.executeQuery<{ home: string, name: string }>(CompiledQuery.raw(homeSql)))
    if (there?.home === here?.home) return
    throw new SpiffeError('config_invalid',
      `datastore_direct_url leads to another database (${there?.name}) than datastore_url (${here?.name}); ` +
      'give the address of the same database, past the pooler, or leave it out')
  } finally {
    client.end().catch(() => {})
  }
}

/** Without TLS over a network, unless that was asked for. */
function transportWarnings ({ targets, tls, tlsChosen }: PostgresAddress): string[] {
  const open = targets.filter(({ host }) => !host.startsWith('/') && !isLoopback(host))
  if (tls !== undefined || tlsChosen || open.length === 0) return []
  return [`the way to PostgreSQL at ${open.map(({ host }) => host).join(', ')} is not encrypted; ` +
    'add sslmode=verify-full and sslrootcert to datastore_url, or say sslmode=disable']
}

function isLoopback (host: string): boolean { return host === 'localhost' || host === '::1' || /^127(\.\d+){3}$/.test(host) }

import { z } from 'zod'
import { pluginBlocks } from '../plugins/plugin-blocks.ts'
import { durationSeconds, notOffered, parsedBy, text } from '../runtime/config-schema.ts'
import { parseDatastoreUrl } from '../storage/datastore-url.ts'
import { keywordsToUrl } from '../storage/postgres/keyword-string.ts'
import { parsePostgresAddress } from '../storage/postgres/postgres-address.ts'
import { answerGraceMs, usualPoolLimits, type PoolLimits } from '../storage/postgres/postgres-pool.ts'
import { orEmpty } from './spire-cache-keys.ts'

/** Where the database is. The address stays text, since it may hold a password; it was checked all the same. */
export interface DatastorePlace {
  readonly url: string
  /** PostgreSQL, which other servers may use too. */
  readonly shared: boolean
}

/** `server.datastore_url`. */
export const datastorePlace = parsedBy(placeOf)

/** `server.datastore_direct_url`. */
export const postgresUrl = parsedBy(text => {
  parsePostgresAddress(text)
  return text
})

function placeOf (url: string): DatastorePlace { return { url, shared: parseDatastoreUrl(url).kind === 'postgres' } }

const mostConnections = 1_000
const rule = `must be 1 to ${mostConnections}`
const connections = z.int().min(1, rule).max(mostConnections, rule)

/** `server.datastore_pool`. */
export const poolSchema = z.strictObject({
  max_connections: connections.optional(),
  connect_timeout: durationSeconds(100).default(usualPoolLimits.connectTimeoutMs / 1000),
  statement_timeout: durationSeconds(100).default(usualPoolLimits.statementTimeoutMs / 1000)
})

const byPassword = 'logging in by IAM is not offered: use postgres, with a password or a client certificate'
const others: Readonly<Record<string, string>> = {
  mysql: 'is not offered: the database is SQLite or PostgreSQL', aws_mysql: 'is not offered: the database is SQLite or PostgreSQL',
  aws_postgres: byPassword
}

/** A name; SPIRE writes those that have keys of their own as a block. */
const databaseType = z.unknown().transform((written, context): 'sqlite3' | 'postgres' => {
  const [block] = Array.isArray(written) ? written as unknown[] : [written]
  const name = typeof block === 'object' && block !== null ? Object.keys(block)[0] ?? '' : block
  if (written === 'sqlite3' || written === 'postgres') return written
  const why = typeof name === 'string' && Object.hasOwn(others, name) ? others[name] : undefined
  context.addIssue(why ?? (written === undefined ? 'is required' : 'must be one of sqlite3, postgres'))
  return z.NEVER
})

const inAddress = (parameter: string) =>
  notOffered(`it is of MySQL alone, also in SPIRE; for PostgreSQL write ${parameter} into connection_string`, [''])

const sqlSchema = z.strictObject({
  database_type: databaseType,
  connection_string: text,
  ro_connection_string: notOffered('agents are answered from memory, and a standby may lack a ban; leave it out', ['']),
  root_ca_path: inAddress('sslrootcert'),
  client_cert_path: inAddress('sslcert'),
  client_key_path: inAddress('sslkey'),
  max_open_conns: connections.optional(),
  max_idle_conns: z.int().min(0, 'must be at least 0').optional(),
  conn_max_lifetime: orEmpty(durationSeconds(0)),
  disable_migration: z.boolean().default(false)
}).transform((sql, context) => {
  try {
    const { connection_string: address, ...others } = sql
    const place = sql.database_type === 'postgres' ? { url: postgresUrlOf(address), shared: true } : placeOf(address)
    return { ...others, place }
  } catch (error) {
    context.addIssue({ code: 'custom', path: ['connection_string'], message: (error as Error).message })
    return z.NEVER
  }
})

/** TLS is SPIRE's default, though nothing of the server is checked. Behind a Unix socket none is asked for all the same. */
function postgresUrlOf (written: string): string {
  const url = /^postgres(ql)?:\/\//i.test(written) ? written : keywordsToUrl(written)
  const { tlsChosen, tls } = parsePostgresAddress(url)
  return tlsChosen || tls !== undefined ? url : `${url}${url.includes('?') ? '&' : '?'}sslmode=require`
}

/** `plugins.DataStore`, with SPIRE's keys. */
export const datastorePlugin = pluginBlocks({ sql: sqlSchema })

export type SqlConfig = z.output<typeof sqlSchema>

export function poolLimitsOf (pool: z.output<typeof poolSchema>, sql: SqlConfig | undefined): PoolLimits {
  const { conn_max_lifetime: lifetime = 0 } = sql ?? {}
  return {
    connections: pool.max_connections ?? sql?.max_open_conns ?? usualPoolLimits.connections,
    idleConnections: sql?.max_idle_conns ?? usualPoolLimits.idleConnections,
    lifetimeMs: lifetime === 0 ? usualPoolLimits.lifetimeMs : lifetime * 1000,
    connectTimeoutMs: pool.connect_timeout * 1000,
    statementTimeoutMs: pool.statement_timeout * 1000,
    answerTimeoutMs: pool.statement_timeout * 1000 + answerGraceMs,
    // Several that vanish together are waited for one after the other, by statements that have their own time for it.
    idleTransactionMs: Math.ceil(pool.statement_timeout * 1000 / 3)
  }
}

/** What is to be said about connections of a database that has none. */
export function sqlNotes (sql: SqlConfig | undefined): string[] {
  if (sql?.database_type !== 'sqlite3') return []
  const given = (['max_open_conns', 'max_idle_conns', 'conn_max_lifetime'] as const).filter(key => sql[key] !== undefined)
  if (given.length === 0) return []
  return [`plugins.DataStore.sql: ${given.join(', ')}: met anyway: a SQLite file has one connection, inside this process`]
}

import type { PostgresPool, PostgresPoolClient } from 'kysely'
import pg from 'pg'
import type { Logger } from '../../runtime/logger.ts'
import { breaksConnection } from './postgres-errors.ts'

export interface PoolLimits {
  readonly connections: number
  readonly connectTimeoutMs: number
  readonly statementTimeoutMs: number
  /** Longer than the server's own limit: it only strikes when the network swallows the answer. */
  readonly answerTimeoutMs: number
}

const usualLimits: PoolLimits = { connections: 10, connectTimeoutMs: 5_000, statementTimeoutMs: 15_000, answerTimeoutMs: 20_000 }

/** Whole numbers of 64 bits arrive as text; ours stay below 2^53. */
const getTypeParser = ((oid, format) =>
  oid === pg.types.builtins.INT8 ? Number : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser

/**
 * A pool that gives a connection up once it failed or did not answer; the next one is a new one, so that a database that
 * restarts is used again as soon as it is back.
 */
export function openPostgresPool (url: string, log: Logger, limits: PoolLimits = usualLimits): PostgresPool {
  const pool = new pg.Pool({
    connectionString: url,
    fallback_application_name: 'assay',
    max: limits.connections,
    connectionTimeoutMillis: limits.connectTimeoutMs,
    statement_timeout: limits.statementTimeoutMs,
    query_timeout: limits.answerTimeoutMs,
    lock_timeout: limits.statementTimeoutMs,
    idle_in_transaction_session_timeout: limits.statementTimeoutMs,
    keepAlive: true,
    types: { getTypeParser }
  })
  pool.on('error', error => { log.warn({ err: error }, 'lost an idle database connection') })
  const watched = new WeakMap<pg.PoolClient, PostgresPoolClient>()
  return {
    options: pool.options,
    end: () => pool.end(),
    connect: async () => {
      const client = await pool.connect()
      const known = watched.get(client) ?? watch(client)
      watched.set(client, known)
      return known
    }
  }
}

/** The same object each time for one connection: Kysely remembers connections by it. */
function watch (client: pg.PoolClient): PostgresPoolClient {
  let broken = false
  // Without a listener an error between two statements would end the process.
  client.on('error', () => { broken = true })
  const query = async <R extends pg.QueryResultRow> (text: string, values: readonly unknown[]) => {
    try {
      return await client.query<R>(text, [...values])
    } catch (error) {
      broken ||= breaksConnection(error)
      throw error
    }
  }
  return {
    query: query as unknown as PostgresPoolClient['query'],
    release: destroy => { client.release(destroy === true || broken) }
  }
}

import pg from 'pg'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { DatastoreClaim } from '../claim-datastore.ts'
import { translatePostgresError } from './postgres-errors.ts'

/** Key of the advisory lock, "assayser" as a number; any two servers on one database agree on it. */
const lockKey = '7021800506338076018'
const retryMs = 1000

/** A session-level advisory lock on a connection of its own: gone when this process is, whatever ends it. */
export async function claimPostgres (
  url: string, { clock, log }: { readonly clock: Clock, readonly log: Logger }
): Promise<DatastoreClaim> {
  let client = await claim(url)
  return {
    async keep (signal) {
      for (;;) {
        await ended(client, signal)
        if (signal.aborted) return
        log.warn('the connection that holds the claim on the database was lost; claiming again')
        client = await claimAgain(signal)
      }
    },
    async [Symbol.asyncDispose] () { await client.end().catch(() => {}) }
  }

  async function claimAgain (signal: AbortSignal): Promise<pg.Client> {
    for (;;) {
      await clock.sleep(retryMs, signal)
      try {
        return await claim(url)
      } catch (error) {
        if (error instanceof SpiffeError && error.code === 'datastore_locked') throw error
        log.warn({ err: error }, 'the database cannot be claimed yet')
      }
    }
  }
}

/** Settles when the connection ends or the signal aborts. `events.once` would throw on the error that comes before the end. */
function ended (client: pg.Client, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    client.once('end', () => resolve())
    signal.addEventListener('abort', () => resolve(), { once: true })
    if (signal.aborted) resolve()
  })
}

async function claim (url: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url, fallback_application_name: 'assay-claim', connectionTimeoutMillis: 5000, query_timeout: 10_000, keepAlive: true
  })
  // Errors between two statements also end the connection, which `keep` waits for.
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows } = await client.query<{ taken: boolean }>('select pg_try_advisory_lock($1::bigint) as taken', [lockKey])
    if (rows[0]?.taken === true) return client
  } catch (error) {
    await client.end().catch(() => {})
    throw translatePostgresError(error, 'the PostgreSQL database')
  }
  await client.end()
  throw new SpiffeError('datastore_locked', 'another assay server uses this PostgreSQL database; only one may for now')
}

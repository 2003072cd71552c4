import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { parseDatastoreUrl } from './datastore-url.ts'
import { claimPostgres } from './postgres/claim-postgres.ts'

/** The sole use of a database by one server. */
export interface DatastoreClaim extends AsyncDisposable {
  /** Watches over the claim until the signal aborts. @throws {SpiffeError} `datastore_locked` when another server took it meanwhile */
  keep (signal: AbortSignal): Promise<void>
}

/**
 * Claims a database for this server. Servers keep registrations in memory and do not tell each other of changes yet, so a second one
 * on the same database would answer from a stale state. An SQLite file is locked by opening it; PostgreSQL needs this.
 * @throws {SpiffeError} `datastore_locked`, `datastore_unavailable`, `config_invalid`
 */
export async function claimDatastore (url: string, deps: { readonly clock: Clock, readonly log: Logger }): Promise<DatastoreClaim> {
  const target = parseDatastoreUrl(url)
  if (target.kind === 'postgres') return await claimPostgres(target.url, deps)
  return { keep: async () => {}, async [Symbol.asyncDispose] () {} }
}

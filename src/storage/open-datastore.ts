import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Datastore } from './datastore.ts'
import { openPostgres } from './postgres/open-postgres.ts'
import type { PoolLimits } from './postgres/postgres-pool.ts'
import { openSqlite } from './sqlite/open-sqlite.ts'
import { parseDatastoreUrl } from './datastore-url.ts'

export interface DatastoreDeps {
  readonly clock: Clock
  readonly log: Logger
  /** PostgreSQL: an address that leads past poolers, for LISTEN; the usual one unless given. Secret. */
  readonly directUrl?: string | undefined
  /** PostgreSQL: what is not given is as usual. */
  readonly poolLimits?: Partial<PoolLimits> | undefined
  /** Whether an older schema is brought up to date; unless told otherwise it is. */
  readonly migrate?: boolean | undefined
}

/**
 * Opens the database and brings its schema up to date; makes one where there is none yet.
 * @param url `sqlite:///path/file.db`, a plain path, or `postgres://…`
 * @throws {SpiffeError} `config_invalid`, `datastore_unavailable`, `datastore_locked`, `datastore_newer`, `datastore_corrupt`;
 *   `datastore_older` where it may not be migrated
 */
export function openDatastore (url: string, deps: DatastoreDeps): Promise<Datastore> {
  const target = parseDatastoreUrl(url)
  return target.kind === 'sqlite' ? openSqlite(target.file, deps) : openPostgres(target.address, deps)
}

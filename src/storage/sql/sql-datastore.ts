import { sql } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import type { Datastore } from '../datastore.ts'
import { migrate } from '../migrations/migrate.ts'
import { SqlAgentStore } from './sql-agent-store.ts'
import { SqlAuthorityStore } from './sql-authority-store.ts'
import { SqlBundleStore } from './sql-bundle-store.ts'
import type { SqlDatabase } from './sql-database.ts'
import { SqlEntryStore } from './sql-entry-store.ts'
import { SqlJoinTokenStore } from './sql-join-token-store.ts'

/** Migrates the database and puts the stores on it. Owns it from here on: closes it on failure, and when disposed. */
export async function openSqlDatastore (database: SqlDatabase, clock: Clock): Promise<Datastore> {
  try {
    await migrate(database)
  } catch (error) {
    await database.close()
    throw error
  }
  return {
    kind: database.kind,
    entries: new SqlEntryStore(database, clock),
    agents: new SqlAgentStore(database, clock),
    joinTokens: new SqlJoinTokenStore(database),
    bundles: new SqlBundleStore(database),
    authorities: new SqlAuthorityStore(database),
    ping: async () => { await database.read(db => sql`select 1`.execute(db)) },
    [Symbol.asyncDispose]: () => database.close()
  }
}

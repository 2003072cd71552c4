import { sql } from 'kysely'
import type { Clock } from '../../runtime/clock.ts'
import type { Datastore } from '../datastore.ts'
import { migrate } from '../migrations/migrate.ts'
import type { Nudges } from '../nudges.ts'
import { SqlAgentStore } from './sql-agent-store.ts'
import { SqlAuthorityStore } from './sql-authority-store.ts'
import { SqlBundleStore } from './sql-bundle-store.ts'
import { SqlChangeLog } from './sql-change-log.ts'
import type { SqlDatabase } from './sql-database.ts'
import { SqlEndpointStore } from './sql-endpoint-store.ts'
import { SqlEntryStore } from './sql-entry-store.ts'
import { SqlFederationStore } from './sql-federation-store.ts'
import { SqlIssuedSvidStore } from './sql-issued-svid-store.ts'
import { SqlJoinTokenStore } from './sql-join-token-store.ts'
import { SqlKeyStore } from './sql-key-store.ts'
import { SqlLeaseStore } from './sql-lease-store.ts'
import { SqlPartnerStateStore } from './sql-partner-state-store.ts'
import { SqlPolicyStore } from './sql-policy-store.ts'
import { SqlProgressStore } from './sql-progress-store.ts'
import { SqlReplicaStore } from './sql-replica-store.ts'
import { SqlServiceStore } from './sql-service-store.ts'
import { SqlRevocationStore } from './sql-revocation-store.ts'

/** Migrates the database, if it may, and puts the stores on it. Owns it from here on: closes it on failure, and when disposed. */
export async function openSqlDatastore (database: SqlDatabase, nudges: Nudges, clock: Clock, mayMigrate = true): Promise<Datastore> {
  try {
    await migrate(database, mayMigrate)
  } catch (error) {
    await database.close()
    throw error
  }
  const storesOn = (database: SqlDatabase) => ({
    kind: database.kind,
    entries: new SqlEntryStore(database, clock),
    agents: new SqlAgentStore(database, clock),
    joinTokens: new SqlJoinTokenStore(database),
    issuedSvids: new SqlIssuedSvidStore(database, clock),
    revocations: new SqlRevocationStore(database, clock),
    bundles: new SqlBundleStore(database, clock),
    federation: new SqlFederationStore(database, clock),
    partnerStates: new SqlPartnerStateStore(database),
    services: new SqlServiceStore(database, clock),
    endpoints: new SqlEndpointStore(database, clock),
    policies: new SqlPolicyStore(database, clock),
    authorities: new SqlAuthorityStore(database, clock),
    keys: new SqlKeyStore(database, clock),
    replicas: new SqlReplicaStore(database, clock),
    progress: new SqlProgressStore(database, clock),
    log: new SqlChangeLog(database, nudges)
  })
  return {
    ...storesOn(database),
    leases: new SqlLeaseStore(database, clock, storesOn),
    ping: async () => { await database.read(db => sql`select 1`.execute(db)) },
    warnings: async () => [],
    [Symbol.asyncDispose]: () => database.close()
  }
}

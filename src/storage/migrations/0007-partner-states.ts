import { sql } from 'kysely'
import type { Migration } from './migration.ts'

export const partnerStates: Migration = {
  number: 7,
  name: 'partner-states',
  async up (trx, { int64, table }) {
    await sql.raw(`create table partner_states (
      trust_domain text not null primary key,
      replica_id text not null,
      seen_at ${int64} not null,
      facts text not null
    )${table}`).execute(trx)
  }
}

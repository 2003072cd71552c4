import { sql } from 'kysely'
import type { Migration } from './migration.ts'

export const federation: Migration = {
  number: 6,
  name: 'federation',
  async up (trx, { rowId, table }) {
    await sql.raw(`create table federation_relationships (
      row_id ${rowId},
      trust_domain text not null unique,
      bundle_endpoint_url text not null,
      bundle_endpoint_profile text not null,
      endpoint_spiffe_id text
    )${table}`).execute(trx)
  }
}

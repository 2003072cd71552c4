import { sql } from 'kysely'
import type { Migration } from './migration.ts'

export const services: Migration = {
  number: 4,
  name: 'services',
  async up (trx, { rowId, int64, table, keyedTable }) {
    const statements = [
      `create table services (
        row_id ${rowId},
        id text not null unique,
        name text not null,
        address text,
        ports text not null,
        spiffe_ids text not null,
        callers text,
        static_endpoints text not null,
        inbound text not null,
        revision_number ${int64} not null,
        created_at ${int64} not null
      )${table}`,
      // Names, addresses and local ports that one service alone may have.
      `create table service_claims (
        claim text not null primary key,
        service_row ${int64} not null references services (row_id) on delete cascade
      )${keyedTable}`,
      'create index service_claims_by_service on service_claims (service_row)',
      // What agents report; made anew in each life of a database.
      `create table service_endpoints (
        row_id ${rowId},
        id text not null unique,
        agent_id text not null,
        spiffe_id text not null,
        address text not null,
        node text not null,
        transports text not null,
        incarnation text not null
      )${table}`,
      'create index service_endpoints_by_agent on service_endpoints (agent_id)',
      // Whether the agent follows services.
      'alter table agent_progress add column mesh integer not null default 0'
    ]
    for (const statement of statements) await sql.raw(statement).execute(trx)
  }
}

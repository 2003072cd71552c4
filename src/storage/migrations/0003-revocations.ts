import { sql } from 'kysely'
import type { Migration } from './migration.ts'

export const revocations: Migration = {
  number: 3,
  name: 'revocations',
  async up (trx, { int64, bytes, keyedTable }) {
    const statements = [
      // X509-SVIDs that were signed and have not expired. agent_id '': minted by an operator.
      `create table issued_svids (
        digest ${bytes} not null primary key,
        serial_number text not null,
        spiffe_id text not null,
        agent_id text not null,
        replica_id text not null,
        issued_at ${int64} not null,
        not_after ${int64} not null
      )${keyedTable}`,
      'create index issued_svids_spiffe_id on issued_svids (spiffe_id)',
      'create index issued_svids_agent_id on issued_svids (agent_id)',
      'create index issued_svids_not_after on issued_svids (not_after)',
      `create table revocations (
        id text not null primary key,
        kind text not null,
        subject text not null,
        digests text not null,
        reason text not null,
        revoked_by text not null,
        revoked_at ${int64} not null,
        expires_at ${int64} not null
      )${keyedTable}`,
      'create index revocations_subject on revocations (subject)'
    ]
    for (const statement of statements) await sql.raw(statement).execute(trx)
  }
}

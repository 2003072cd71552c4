import { sql } from 'kysely'
import type { Migration } from './migration.ts'

export const revocations: Migration = {
  number: 3,
  name: 'revocations',
  async up (trx, { int64, table, keyedTable }) {
    const statements = [
      // X509-SVIDs that were signed together for one node; agent_id '': minted by operators. not_after: of the last one to expire.
      // Whoever searches reads the table: an index would cost more with each SVID than it saves with a revocation.
      `create table issued_svids (
        id text not null primary key,
        agent_id text not null,
        replica_id text not null,
        issued_at ${int64} not null,
        not_after ${int64} not null,
        svids text not null
      )${table}`,
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

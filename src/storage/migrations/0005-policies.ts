import { sql } from 'kysely'
import type { Migration } from './migration.ts'

export const policies: Migration = {
  number: 5,
  name: 'policies',
  async up (trx, { int64, bytes, table }) {
    const statements = [
      // texts: JSON of [[name, text], …], compressed by gzip: one megabyte of rules takes some ten kilobytes.
      `create table policy_versions (
        number ${int64} not null primary key,
        revision text not null,
        parent ${int64} not null,
        applied_by text not null,
        applied_at ${int64} not null,
        comment text not null,
        rules ${int64} not null,
        documents ${int64} not null,
        bytes ${int64} not null,
        selectors text not null,
        texts ${bytes} not null
      )${table}`,
      // What the agent decides by; null: it does not follow policies.
      `alter table agent_progress add column policy_version ${int64}`,
      'alter table agent_progress add column policy_refusal text not null default \'\''
    ]
    for (const statement of statements) await sql.raw(statement).execute(trx)
  }
}

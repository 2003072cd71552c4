import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import type { Migration } from './migration.ts'

export const replicas: Migration = {
  number: 2,
  name: 'replicas',
  async up (trx, { int64, bytes, keyedTable }) {
    const statements = [
      // One row. `compacted`: the newest number that is no longer in change_log.
      `create table log_head (
        epoch text not null primary key,
        number ${int64} not null,
        compacted ${int64} not null
      )${keyedTable}`,
      `create table change_log (
        number ${int64} not null primary key,
        changed_at ${int64} not null,
        keys text not null
      )${keyedTable}`,
      `create table leases (
        name text not null primary key,
        holder text not null,
        token ${int64} not null,
        expires_at ${int64} not null
      )${keyedTable}`,
      `create table wrapped_keys (
        id text not null primary key,
        wrapped ${bytes} not null
      )${keyedTable}`,
      `create table replicas (
        id text not null primary key,
        name text not null,
        version text not null,
        started_at ${int64} not null,
        seen_at ${int64} not null,
        epoch text not null,
        number ${int64} not null,
        facts text not null
      )${keyedTable}`,
      // How far agents have taken changes over, as the replica they talk to knows it.
      `create table agent_progress (
        agent_id text not null primary key,
        replica_id text not null,
        state text not null,
        epoch text not null,
        number ${int64} not null,
        unserved text not null,
        seen_at ${int64} not null
      )${keyedTable}`,
      // Whose they are: '' the trust domain's, otherwise one replica's.
      'alter table authorities add column owner text not null default \'\''
    ]
    for (const statement of statements) await sql.raw(statement).execute(trx)
    await trx.insertInto('log_head').values({ epoch: randomUUID(), number: 0, compacted: 0 }).execute()
  }
}

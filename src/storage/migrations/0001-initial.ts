import { sql } from 'kysely'
import type { Migration } from './migration.ts'

export const initial: Migration = {
  number: 1,
  name: 'initial',
  async up (trx, { rowId, int64, bytes, table, keyedTable }) {
    const statements = [
      `create table bundles (
        row_id ${rowId},
        trust_domain text not null unique,
        sequence_number text,
        refresh_hint ${int64},
        x509_authorities text not null,
        jwt_authorities text not null
      )${table}`,
      `create table entries (
        row_id ${rowId},
        id text not null unique,
        spiffe_id text not null,
        parent_id text not null,
        similarity ${bytes} not null unique,
        selectors text not null,
        selector_count integer not null,
        federates_with text not null,
        federation_count integer not null,
        dns_names text not null,
        x509_svid_ttl ${int64} not null,
        jwt_svid_ttl ${int64} not null,
        admin integer not null,
        downstream integer not null,
        store_svid integer not null,
        hint text not null,
        expires_at ${int64} not null,
        attributes text not null,
        revision_number ${int64} not null,
        created_at ${int64} not null
      )${table}`,
      'create index entries_by_spiffe_id on entries (spiffe_id)',
      'create index entries_by_parent_id on entries (parent_id)',
      'create index entries_by_expiry on entries (expires_at) where expires_at > 0',
      `create table entry_selectors (
        selector_key ${bytes} not null,
        entry_row ${int64} not null references entries (row_id) on delete cascade,
        primary key (selector_key, entry_row)
      )${keyedTable}`,
      'create index entry_selectors_by_entry on entry_selectors (entry_row)',
      `create table entry_federations (
        trust_domain text not null references bundles (trust_domain),
        entry_row ${int64} not null references entries (row_id) on delete cascade,
        primary key (trust_domain, entry_row)
      )${keyedTable}`,
      'create index entry_federations_by_entry on entry_federations (entry_row)',
      `create table agents (
        row_id ${rowId},
        id text not null unique,
        attestation_type text not null,
        serial_number text not null,
        expires_at ${int64} not null,
        new_serial_number text,
        new_expires_at ${int64},
        can_reattest integer not null,
        banned integer not null,
        agent_version text not null,
        selectors text not null,
        selector_count integer not null
      )${table}`,
      'create index agents_by_expiry on agents (expires_at)',
      `create table agent_selectors (
        selector_key ${bytes} not null,
        agent_row ${int64} not null references agents (row_id) on delete cascade,
        primary key (selector_key, agent_row)
      )${keyedTable}`,
      'create index agent_selectors_by_agent on agent_selectors (agent_row)',
      `create table join_tokens (
        digest ${bytes} not null primary key,
        expires_at ${int64} not null
      )${keyedTable}`,
      'create index join_tokens_by_expiry on join_tokens (expires_at)',
      `create table authorities (
        row_id ${rowId},
        kind text not null,
        authority_id text not null,
        slot text not null,
        state text not null,
        certificate ${bytes},
        public_key ${bytes} not null,
        not_before ${int64} not null,
        not_after ${int64} not null,
        upstream_authority_id text,
        unique (kind, authority_id)
      )${table}`
    ]
    for (const statement of statements) await sql.raw(statement).execute(trx)
  }
}

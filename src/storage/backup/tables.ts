import type { Schema } from '../sql/schema.ts'

/** `?` ends the kind of a column that may be null. `json` is text that holds JSON. */
export type ColumnKind = `${'text' | 'json' | 'int' | 'bytes'}${'' | '?'}`

/**
 * What becomes of a table's rows when a backup is restored. `registry`: what operators wrote; the backup's. `identities`: what running
 * agents and SVIDs rest on; the backup's, unless the database to be overwritten knows better. `tokens`: in no backup, since one that was
 * used meanwhile would work a second time; moved with the database all the same. `issued`: what is out in the world, whatever a database
 * says; a restore adds the backup's rows to those that are there. `revocations`: the same, unless those that are there are to be discarded.
 * `leases`: the names; tokens grow.
 */
export type TableRole = 'registry' | 'identities' | 'tokens' | 'issued' | 'revocations' | 'leases'

export interface TableSpec {
  readonly name: keyof Schema
  readonly role: TableRole
  /** In the order in which rows are written down. */
  readonly columns: Readonly<Record<string, ColumnKind>>
  /** Unique; rows are read in its order, which both databases agree on. */
  readonly key: readonly string[]
  /** Rows that are in memory at once. */
  readonly atOnce: number
}

const usual = 1_000

/**
 * Every table that is copied, those that others refer to first. What is not here belongs to one life of a database and is made anew:
 * `schema_migrations`, `log_head`, `change_log`, `replicas`, `agent_progress`,
 * `partner_states`, and `service_endpoints`, which agents say again.
 */
export const tables: readonly TableSpec[] = [
  {
    name: 'bundles',
    role: 'registry',
    columns: {
      row_id: 'int', trust_domain: 'text', sequence_number: 'text?', refresh_hint: 'int?', x509_authorities: 'json', jwt_authorities: 'json'
    },
    key: ['row_id'],
    // Large federations publish long bundles.
    atOnce: 50
  },
  {
    name: 'federation_relationships',
    role: 'registry',
    columns: {
      row_id: 'int', trust_domain: 'text', bundle_endpoint_url: 'text', bundle_endpoint_profile: 'text', endpoint_spiffe_id: 'text?'
    },
    key: ['row_id'],
    atOnce: usual
  },
  {
    name: 'entries',
    role: 'registry',
    columns: {
      row_id: 'int',
      id: 'text',
      spiffe_id: 'text',
      parent_id: 'text',
      similarity: 'bytes',
      selectors: 'json',
      selector_count: 'int',
      federates_with: 'json',
      federation_count: 'int',
      dns_names: 'json',
      x509_svid_ttl: 'int',
      jwt_svid_ttl: 'int',
      admin: 'int',
      downstream: 'int',
      store_svid: 'int',
      hint: 'text',
      expires_at: 'int',
      attributes: 'json',
      revision_number: 'int',
      created_at: 'int'
    },
    key: ['row_id'],
    atOnce: usual
  },
  {
    name: 'entry_selectors',
    role: 'registry',
    columns: { selector_key: 'bytes', entry_row: 'int' },
    key: ['selector_key', 'entry_row'],
    atOnce: usual
  },
  {
    name: 'entry_federations',
    role: 'registry',
    columns: { entry_row: 'int', trust_domain: 'text' },
    key: ['entry_row', 'trust_domain'],
    atOnce: usual
  },
  {
    name: 'services',
    role: 'registry',
    columns: {
      row_id: 'int',
      id: 'text',
      name: 'text',
      address: 'text?',
      ports: 'json',
      spiffe_ids: 'json',
      callers: 'json?',
      static_endpoints: 'json',
      inbound: 'text',
      revision_number: 'int',
      created_at: 'int'
    },
    key: ['row_id'],
    atOnce: usual
  },
  { name: 'service_claims', role: 'registry', columns: { claim: 'text', service_row: 'int' }, key: ['claim'], atOnce: usual },
  {
    name: 'policy_versions',
    role: 'registry',
    columns: {
      number: 'int', revision: 'text', parent: 'int', applied_by: 'text', applied_at: 'int', comment: 'text', rules: 'int',
      documents: 'int', bytes: 'int', selectors: 'json', texts: 'bytes'
    },
    key: ['number'],
    // Some megabytes each, if they are long and do not compress.
    atOnce: 4
  },
  {
    name: 'agents',
    role: 'identities',
    columns: {
      row_id: 'int',
      id: 'text',
      attestation_type: 'text',
      serial_number: 'text',
      expires_at: 'int',
      new_serial_number: 'text?',
      new_expires_at: 'int?',
      can_reattest: 'int',
      banned: 'int',
      agent_version: 'text',
      selectors: 'json',
      selector_count: 'int'
    },
    key: ['row_id'],
    atOnce: usual
  },
  {
    name: 'agent_selectors',
    role: 'identities',
    columns: { selector_key: 'bytes', agent_row: 'int' },
    key: ['selector_key', 'agent_row'],
    atOnce: usual
  },
  { name: 'join_tokens', role: 'tokens', columns: { digest: 'bytes', expires_at: 'int' }, key: ['digest'], atOnce: usual },
  {
    name: 'authorities',
    role: 'identities',
    columns: {
      row_id: 'int',
      kind: 'text',
      authority_id: 'text',
      slot: 'text',
      state: 'text',
      certificate: 'bytes?',
      public_key: 'bytes',
      not_before: 'int',
      not_after: 'int',
      upstream_authority_id: 'text?',
      owner: 'text'
    },
    key: ['row_id'],
    atOnce: usual
  },
  { name: 'wrapped_keys', role: 'identities', columns: { id: 'text', wrapped: 'bytes' }, key: ['id'], atOnce: usual },
  {
    name: 'issued_svids',
    role: 'issued',
    columns: { id: 'text', agent_id: 'text', replica_id: 'text', issued_at: 'int', not_after: 'int', svids: 'json' },
    key: ['id'],
    // Some hold thousands of SVIDs.
    atOnce: 100
  },
  {
    name: 'revocations',
    role: 'revocations',
    columns: {
      id: 'text', kind: 'text', subject: 'text', digests: 'json', reason: 'text', revoked_by: 'text', revoked_at: 'int', expires_at: 'int'
    },
    key: ['id'],
    // One may name thousands of certificates.
    atOnce: 50
  },
  {
    name: 'leases',
    role: 'leases',
    columns: { name: 'text', holder: 'text', token: 'int', expires_at: 'int' },
    key: ['name'],
    atOnce: usual
  }
]

/** What a backup holds. */
export const savedTables: readonly TableSpec[] = tables.filter(({ role }) => role !== 'tokens')

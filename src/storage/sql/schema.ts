import type { Generated, Insertable, Selectable } from 'kysely'

/** Instants count milliseconds since 1970, in entries seconds. Flags are 0 or 1. Lists are JSON text. A `row_id` grows with insertion. */
export interface Schema {
  entries: EntryTable
  /** One row per selector of an entry; what filters search. */
  entry_selectors: { entry_row: number, selector_key: Uint8Array }
  entry_federations: { entry_row: number, trust_domain: string }
  agents: AgentTable
  agent_selectors: { agent_row: number, selector_key: Uint8Array }
  join_tokens: JoinTokenTable
  issued_svids: IssuedSvidTable
  revocations: RevocationTable
  bundles: BundleTable
  federation_relationships: FederationTable
  authorities: AuthorityTable
  /** One row: where the log of changes stands. */
  log_head: { epoch: string, number: number, compacted: number }
  /** One row per changing transaction; `keys` is `[[kind, key], …]`. */
  change_log: { number: number, changed_at: number, keys: string }
  leases: { name: string, holder: string, token: number, expires_at: number }
  wrapped_keys: { id: string, wrapped: Uint8Array }
  replicas: ReplicaTable
  agent_progress: ProgressTable
  partner_states: PartnerStateTable
  services: ServiceTable
  /** `name web`, `address 10.96.0.1`, `local port 1080`. */
  service_claims: { claim: string, service_row: number }
  service_endpoints: EndpointTable
  policy_versions: PolicyVersionTable
  /** One row per migration that ran. */
  schema_migrations: { number: number, name: string }
}

interface EntryTable {
  row_id: Generated<number>
  id: string
  spiffe_id: string
  parent_id: string
  /** SHA-256 over SPIFFE ID, parent and selectors; unique. */
  similarity: Uint8Array
  /** `[[type, value], …]` */
  selectors: string
  selector_count: number
  federates_with: string
  federation_count: number
  dns_names: string
  x509_svid_ttl: number
  jwt_svid_ttl: number
  admin: number
  downstream: number
  store_svid: number
  hint: string
  expires_at: number
  attributes: string
  revision_number: number
  created_at: number
}

interface AgentTable {
  row_id: Generated<number>
  id: string
  attestation_type: string
  serial_number: string
  expires_at: number
  new_serial_number: string | null
  new_expires_at: number | null
  can_reattest: number
  banned: number
  agent_version: string
  selectors: string
  selector_count: number
}

interface JoinTokenTable {
  /** SHA-256 of the token. */
  digest: Uint8Array
  expires_at: number
}

interface IssuedSvidTable {
  /** Grows with time. */
  id: string
  /** Empty: minted by operators. */
  agent_id: string
  replica_id: string
  issued_at: number
  /** Of the last one to expire. */
  not_after: number
  /** `[[SHA-256 of the leaf in hex, serial number, SPIFFE ID, notAfter in ms], …]` */
  svids: string
}

interface RevocationTable {
  id: string
  kind: string
  subject: string
  /** `[hex, …]` */
  digests: string
  reason: string
  revoked_by: string
  revoked_at: number
  expires_at: number
}

interface BundleTable {
  row_id: Generated<number>
  trust_domain: string
  /** Decimal: 64 bits unsigned do not fit a column. */
  sequence_number: string | null
  refresh_hint: number | null
  /** `[{ certificate: base64, tainted }, …]` */
  x509_authorities: string
  /** `[{ keyId, publicKey: base64, expiresAt: ms, tainted }, …]` */
  jwt_authorities: string
}

interface FederationTable {
  row_id: Generated<number>
  trust_domain: string
  bundle_endpoint_url: string
  /** `https_web` or `https_spiffe` */
  bundle_endpoint_profile: string
  /** Of `https_spiffe` alone. */
  endpoint_spiffe_id: string | null
}

interface AuthorityTable {
  row_id: Generated<number>
  kind: string
  authority_id: string
  slot: string
  state: string
  certificate: Uint8Array | null
  public_key: Uint8Array
  not_before: number
  not_after: number
  upstream_authority_id: string | null
  /** Empty: the trust domain's; else the id of the replica whose own it is. */
  owner: string
}

interface ReplicaTable {
  id: string
  name: string
  version: string
  started_at: number
  seen_at: number
  epoch: string
  number: number
  /** JSON, for people. */
  facts: string
}

interface ProgressTable {
  agent_id: string
  replica_id: string
  state: string
  epoch: string
  number: number
  /** JSON: ids of entries. */
  unserved: string
  seen_at: number
  mesh: number
  /** Null: the agent does not follow policies. */
  policy_version: number | null
  policy_refusal: string
}

interface PartnerStateTable {
  trust_domain: string
  replica_id: string
  seen_at: number
  /** JSON, for people. */
  facts: string
}

interface ServiceTable {
  row_id: Generated<number>
  id: string
  name: string
  address: string | null
  /** The lists as JSON of what the domain calls them. */
  ports: string
  spiffe_ids: string
  /** Null: whoever is authenticated. */
  callers: string | null
  static_endpoints: string
  inbound: string
  revision_number: number
  created_at: number
}

interface EndpointTable {
  row_id: Generated<number>
  id: string
  agent_id: string
  spiffe_id: string
  address: string
  node: string
  /** Words, the preferred one first. */
  transports: string
  incarnation: string
}

interface PolicyVersionTable {
  /** The newest is the active one. */
  number: number
  revision: string
  parent: number
  applied_by: string
  applied_at: number
  comment: string
  rules: number
  documents: number
  bytes: number
  /** `[[type:value, …], …]` */
  selectors: string
  /** `[[name, text], …]`, gzip. */
  texts: Uint8Array
}

export type EntryRow = Selectable<EntryTable>

export type EntryRowDraft = Insertable<EntryTable>
export type AgentRow = Selectable<AgentTable>
export type AgentRowDraft = Insertable<AgentTable>
export type IssuedSvidRow = Selectable<IssuedSvidTable>
export type RevocationRow = Selectable<RevocationTable>
export type BundleRow = Selectable<BundleTable>
export type FederationRow = Selectable<FederationTable>
export type AuthorityRow = Selectable<AuthorityTable>
export type ProgressRow = Selectable<ProgressTable>
export type PartnerStateRow = Selectable<PartnerStateTable>
export type ReplicaRow = Selectable<ReplicaTable>
export type ServiceRow = Selectable<ServiceTable>
export type ServiceRowDraft = Insertable<ServiceTable>
export type PolicyVersionRow = Selectable<PolicyVersionTable>
export type EndpointRow = Selectable<EndpointTable>
export type EndpointRowDraft = Insertable<EndpointTable>

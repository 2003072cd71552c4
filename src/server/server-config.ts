import { join } from 'node:path'
import { z } from 'zod'
import { guaranteedTtlSeconds } from '../ca/rotation-schedule.ts'
import { pluginSchemas, type ConfiguredPlugin, type ConfiguredPlugins } from '../plugins/catalog.ts'
import { AdminRoles } from '../authz/admin/role.ts'
import { rolesSchema } from '../authz/admin/role-schema.ts'
import type { Network } from '../authz/policy/match.ts'
import { parseNetwork } from '../authz/policy/network.ts'
import { type PrometheusConfig, type TelemetryConfig, telemetrySchema, usualTelemetry } from '../rpc/telemetry/telemetry-config.ts'
import { formatProblems, readConfig, type ConfigSource } from '../runtime/config-file.ts'
import {
  durationSeconds, healthChecksSchema, logFormat, logLevel, parsedBy, port, text, wholeSeconds, type HealthChecks, type LogConfig
} from '../runtime/config-schema.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseSpiffeId, type SpiffeId } from '../spiffe/spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from '../spiffe/trust-domain.ts'
import type { PoolLimits } from '../storage/postgres/postgres-pool.ts'
import type { KeyType } from '../x509/key-type.ts'
import { issuersOf } from '../oidc/issuers.ts'
import { embeddedOidcSchema } from '../oidc/oidc-config.ts'
import type { ProviderConfig } from '../oidc/provider.ts'
import { datastorePlace, datastorePlugin, poolLimitsOf, poolSchema, postgresUrl, sqlNotes } from './datastore-config.ts'
import { federationSchema, federationWarnings, type FederationConfig } from './federation/federation-config.ts'
import { serverCatalog, type ServerPlugins } from './server-catalog.ts'
import { cacheNotes, leastStaleSeconds, orEmpty, spireCacheKeys, stalenessOf } from './spire-cache-keys.ts'
import { spireOnlyExperiments, spireOnlyKeys } from './spire-only-keys.ts'

/** What `runServer` needs; every default is filled in. */
export interface ServerConfig extends LogConfig {
  readonly trustDomain: TrustDomain
  readonly bindAddress: string
  readonly bindPort: number
  /** Who may say in the PROXY protocol whose connection it passes on; none: nobody, and nothing of it is read. */
  readonly trustedProxies: readonly Network[]
  /** Of TLS to the API and to the bundle endpoint: with ML-KEM or not at all. */
  readonly requirePqKem: boolean
  /** The admin socket. */
  readonly socketPath: string
  readonly dataDir: string
  /** `sqlite:///path` or `postgres://…`. Secret: may hold a password. */
  readonly datastoreUrl: string
  /** PostgreSQL: an address past any pooler, for LISTEN. Secret: may hold a password. */
  readonly datastoreDirectUrl: string | undefined
  /** PostgreSQL. */
  readonly datastorePool: PoolLimits
  /** Whether a database of an older version is brought up to date at the start. */
  readonly migrateDatastore: boolean
  /** How old this replica's view of the database may be before it answers agents no more; infinite by explicit choice. */
  readonly maxStaleMs: number
  /** How long changes are kept for replicas that are away. */
  readonly changesKeptMs: number
  readonly caTtlSeconds: number
  readonly caKeyType: KeyType
  readonly jwtKeyType: KeyType
  readonly defaultX509SvidTtlSeconds: number
  readonly defaultJwtSvidTtlSeconds: number
  readonly agentTtlSeconds: number
  /** Whether an agent's own ID is one of its selectors, for node aliases. */
  readonly agentIdAsSelector: boolean
  /** The `iss` claim; absent by default. */
  readonly jwtIssuer: string | undefined
  readonly disableJwtSvids: boolean
  readonly adminIds: readonly SpiffeId[]
  readonly federation: FederationConfig
  /** Publishes this trust domain's JWT keys. */
  readonly oidc: ProviderConfig | undefined
  readonly roles: AdminRoles
  /** Whether processes on the admin socket need a role, unless they are root's or of the server's own user. */
  readonly socketRequiresRole: boolean
  /** SPIRE's authorization policy, instead of the built-in table. Paths of files. */
  readonly apiPolicy: { readonly regoPath: string, readonly dataPath: string | undefined, readonly opaPath: string | undefined } | undefined
  readonly plugins: ConfiguredPlugins<ServerPlugins>
  readonly caSubject: { readonly country: readonly string[], readonly organization: readonly string[], readonly commonName: string }
  /** Removes agents whose SVIDs ended so long ago; `undefined`: they stay. */
  readonly pruneAgents: { readonly expiredForMs: number, readonly includeTofu: boolean, readonly limit: number | undefined } | undefined
  /** Whether each call leaves a line in the log, of level `info`. */
  readonly auditLog: boolean
  readonly ratelimit: { readonly attestation: boolean, readonly signing: boolean }
  readonly prometheus: PrometheusConfig | undefined
  readonly telemetry: TelemetryConfig
  readonly healthChecks: HealthChecks | undefined
  /** Of keys of SPIRE's, what is so anyway, or what they come to here; a sentence each. */
  readonly notes: readonly string[]
}

function parseTrustedNetwork (text: string): Network {
  const network = parseNetwork(text)
  if (network === undefined) throw new Error('must be a network such as 10.0.0.0/8 with no bits below its mask, or an IP address')
  return network
}

/** A replica that was away for longer reads everything anew. */
const usualChangesKeptSeconds = 3_600

const keyTypes = z.enum(['ec-p256', 'ec-p384', 'rsa-2048', 'rsa-4096'] satisfies KeyType[])

const serverSchema = z.strictObject({
  trust_domain: parsedBy(parseTrustDomain),
  bind_address: text.default('0.0.0.0'),
  bind_port: port.default(8081),
  proxy_protocol_trusted_cidrs: z.array(parsedBy(parseTrustedNetwork)).default([]),
  socket_path: text.default('/tmp/assay-server/private/api.sock'),
  data_dir: text,
  datastore_url: datastorePlace.optional(),
  datastore_direct_url: postgresUrl.optional(),
  datastore_pool: poolSchema.prefault({}),
  max_staleness: durationSeconds(leastStaleSeconds * 1000).default(10),
  max_attested_node_info_staleness: orEmpty(durationSeconds(0)),
  signing_during_database_outage: z.boolean().default(false),
  admin_ids: z.array(parsedBy(parseSpiffeId)).default([]),
  roles: rolesSchema.default([]),
  federation: federationSchema.prefault({}),
  oidc_discovery_provider: embeddedOidcSchema.optional(),
  socket_requires_role: z.boolean().default(false),
  experimental: z.strictObject({
    auth_opa_policy_engine: z.strictObject({
      local: z.strictObject({ rego_path: text, policy_data_path: text.optional(), opa_path: text.optional() })
    }).optional(),
    agent_spiffe_id_as_selector: z.boolean().default(false),
    ...spireCacheKeys,
    prune_events_older_than: orEmpty(durationSeconds(1_000)),
    require_pq_kem: z.boolean().default(false),
    ...spireOnlyExperiments
  }).prefault({}),
  agent_ttl: wholeSeconds.optional(),
  default_x509_svid_ttl: wholeSeconds.default(3_600),
  default_jwt_svid_ttl: wholeSeconds.default(300),
  ca_ttl: wholeSeconds.default(86_400),
  ca_key_type: keyTypes.default('ec-p256'),
  jwt_key_type: keyTypes.optional(),
  ca_subject: z.strictObject({
    country: z.array(z.string().length(2, 'must be a country code of two letters')).default([]),
    organization: z.array(text).default([]),
    common_name: z.string().default('')
  }).optional(),
  jwt_issuer: text.optional(),
  disable_jwt_svids: z.boolean().default(false),
  ratelimit: z.strictObject({ attestation: z.boolean().default(true), signing: z.boolean().default(true) }).prefault({}),
  prune_attested_nodes_expired_for: durationSeconds(0).optional(),
  prune_attested_nodes_batch_size: z.int().min(1, 'must be at least 1').optional(),
  prune_tofu_nodes: z.boolean().default(false),
  audit_log_enabled: z.boolean().default(false),
  ...spireOnlyKeys,
  log_level: logLevel.default('info'),
  log_file: text.optional(),
  log_format: logFormat.default('json'),
  log_source_location: z.boolean().default(false)
})

const pluginsSchema = z.strictObject({
  ...pluginSchemas(serverCatalog),
  DataStore: datastorePlugin
})

const configSchema = z.strictObject({
  server: z.preprocess(value => value ?? {}, serverSchema),
  plugins: z.preprocess(value => value ?? {}, pluginsSchema),
  telemetry: telemetrySchema.nullish(),
  health_checks: healthChecksSchema.nullish()
}).check(({ value, issues }) => {
  // Something in there was refused, and it is still as it was written.
  if (!Array.isArray(value.server.federation.partners)) return
  const refuse = (path: string[], message: string) => issues.push({ code: 'custom', path, message, input: undefined })
  const { prune_attested_nodes_expired_for: expiredFor, prune_tofu_nodes: tofu, prune_attested_nodes_batch_size: atOnce } = value.server
  if (expiredFor === undefined && (tofu || atOnce !== undefined)) {
    const key = tofu ? 'prune_tofu_nodes' : 'prune_attested_nodes_batch_size'
    refuse(['server', key], 'says nothing without prune_attested_nodes_expired_for')
  }
  const { sql } = value.plugins.DataStore
  if (sql !== undefined && value.server.datastore_url !== undefined) {
    refuse(['server', 'datastore_url'], 'is set beside plugins.DataStore; keep one of them')
  }
  if (sql?.max_open_conns !== undefined && value.server.datastore_pool.max_connections !== undefined) {
    refuse(['server', 'datastore_pool', 'max_connections'], 'is set beside max_open_conns of plugins.DataStore; keep one of them')
  }
  if (sql?.database_type === 'sqlite3' && sql.place.shared) {
    refuse(['plugins', 'DataStore', 'sql', 'plugin_data', 'connection_string'], 'must be a path for sqlite3')
  }
  const { shared = false } = value.server.datastore_url ?? sql?.place ?? {}
  if (shared && value.plugins.KeyManager.some(({ name }) => name === 'memory')) {
    refuse(['plugins', 'KeyManager', 'memory'],
      'cannot be used with PostgreSQL: each server that restarts or takes over would leave another root in the bundle; use database, ' +
      'whose keys all servers share, or disk')
  }
  const { max_attested_node_info_staleness: ofAgents = 0, signing_during_database_outage: whileAway, experimental } = value.server
  if (shared && ofAgents > 0 && ofAgents < leastStaleSeconds) {
    refuse(['server', 'max_attested_node_info_staleness'], `must be at least ${leastStaleSeconds}s with PostgreSQL, or 0s`)
  }
  if (ofAgents > 0 && whileAway) {
    refuse(['server', 'max_attested_node_info_staleness'], 'says the opposite of signing_during_database_outage; keep one of them')
  }
  if (experimental.event_timeout !== undefined && experimental.sql_transaction_timeout !== undefined) {
    refuse(['server', 'experimental', 'sql_transaction_timeout'], 'is the old name of event_timeout, which is there too; keep one of them')
  }
  for (const { trustDomain } of value.server.federation.partners) {
    if (trustDomain === value.server.trust_domain) {
      refuse(['server', 'federation', 'federates_with', trustDomain], 'is this server\'s own trust domain: it cannot federate with itself')
    }
  }
  if (value.server.federation.copies.has(value.server.trust_domain)) {
    refuse(['server', 'federation', 'copies', value.server.trust_domain], 'is this server\'s own trust domain: its bundle is not fetched')
  }
  // What was refused for something else is as it came, and no list.
  const publishers = Array.isArray(value.plugins.BundlePublisher) ? value.plugins.BundlePublisher : []
  const isSigned = ({ config }: ConfiguredPlugin) => (config as { readonly format?: string } | undefined)?.format === 'signed'
  if (value.server.disable_jwt_svids && publishers.some(isSigned)) {
    refuse(['plugins', 'BundlePublisher'], 'has the format signed, for which it takes a JWT key, and disable_jwt_svids is set')
  }
  if (!shared && value.server.datastore_direct_url !== undefined) {
    refuse(['server', 'datastore_direct_url'],
      'leads past a pooler to PostgreSQL, and the database here is SQLite; leave it out, or set datastore_url to a postgres:// address')
  }
})

/** @throws {SpiffeError} `config_invalid`, one line for each problem; `details.problems` holds them apart */
export function parseServerConfig (source: ConfigSource): ServerConfig {
  const reading = readConfig(configSchema, source)
  if (reading.value === undefined) {
    throw new SpiffeError('config_invalid', formatProblems(reading.problems), { details: { problems: reading.problems } })
  }
  const { server, plugins: { DataStore: { sql }, ...plugins } } = reading.value
  const { ca_subject: subject, datastore_pool: pool, experimental } = server
  const { auth_opa_policy_engine: engine } = experimental
  const { url: datastoreUrl, shared } =
    server.datastore_url ?? sql?.place ?? { url: join(server.data_dir, 'datastore.sqlite3'), shared: false }
  const stale = stalenessOf({
    ofAgents: server.max_attested_node_info_staleness,
    ofAll: server.signing_during_database_outage ? Number.POSITIVE_INFINITY : server.max_staleness,
    shared
  })
  return {
    trustDomain: server.trust_domain,
    bindAddress: server.bind_address,
    bindPort: server.bind_port,
    trustedProxies: server.proxy_protocol_trusted_cidrs,
    requirePqKem: server.experimental.require_pq_kem,
    socketPath: server.socket_path,
    dataDir: server.data_dir,
    datastoreUrl,
    datastoreDirectUrl: server.datastore_direct_url,
    datastorePool: poolLimitsOf(pool, sql),
    migrateDatastore: sql?.disable_migration !== true,
    maxStaleMs: stale.seconds * 1000,
    changesKeptMs: (experimental.prune_events_older_than ?? usualChangesKeptSeconds) * 1000,
    caTtlSeconds: server.ca_ttl,
    caKeyType: server.ca_key_type,
    jwtKeyType: server.jwt_key_type ?? server.ca_key_type,
    defaultX509SvidTtlSeconds: server.default_x509_svid_ttl,
    defaultJwtSvidTtlSeconds: server.default_jwt_svid_ttl,
    agentTtlSeconds: server.agent_ttl ?? server.default_x509_svid_ttl,
    agentIdAsSelector: experimental.agent_spiffe_id_as_selector,
    jwtIssuer: server.jwt_issuer,
    disableJwtSvids: server.disable_jwt_svids,
    adminIds: server.admin_ids,
    federation: server.federation,
    oidc: server.oidc_discovery_provider,
    roles: new AdminRoles(server.roles),
    socketRequiresRole: server.socket_requires_role,
    apiPolicy: engine && { regoPath: engine.local.rego_path, dataPath: engine.local.policy_data_path, opaPath: engine.local.opa_path },
    plugins,
    caSubject: subject === undefined
      ? { country: ['US'], organization: ['SPIFFE'], commonName: '' }
      : { country: subject.country, organization: subject.organization, commonName: subject.common_name },
    pruneAgents: server.prune_attested_nodes_expired_for === undefined ? undefined : {
      expiredForMs: server.prune_attested_nodes_expired_for * 1000,
      includeTofu: server.prune_tofu_nodes,
      limit: server.prune_attested_nodes_batch_size
    },
    auditLog: server.audit_log_enabled,
    ratelimit: server.ratelimit,
    logLevel: server.log_level,
    logFile: server.log_file,
    logFormat: server.log_format,
    logSourceLocation: server.log_source_location,
    prometheus: reading.value.telemetry?.prometheus,
    telemetry: reading.value.telemetry?.telemetry ?? usualTelemetry,
    healthChecks: reading.value.health_checks ?? undefined,
    notes: [...stale.note === undefined ? [] : [stale.note], ...cacheNotes(experimental), ...sqlNotes(sql)]
  }
}

/** What is allowed but likely unwanted, a sentence each. */
export function serverConfigWarnings (config: ServerConfig): string[] {
  const warnings = []
  const guaranteed = guaranteedTtlSeconds(config.caTtlSeconds)
  for (const [key, seconds] of [
    ['default_x509_svid_ttl', config.defaultX509SvidTtlSeconds],
    ['default_jwt_svid_ttl', config.defaultJwtSvidTtlSeconds],
    ['agent_ttl', config.agentTtlSeconds]
  ] as const) {
    if (seconds <= guaranteed) continue
    warnings.push(`${key} (${seconds}s) is longer than 55 % of ca_ttl (${guaranteed}s): SVIDs may end earlier; raise ca_ttl or lower it`)
  }
  if (config.maxStaleMs === Number.POSITIVE_INFINITY) {
    warnings.push('signing_during_database_outage: a replica cut off from the database also serves agents that are banned meanwhile')
  }
  if (config.plugins.KeyManager.some(({ name }) => name === 'memory')) {
    warnings.push('the memory key manager loses all keys at restart: SVIDs must then be renewed')
  }
  if (config.oidc !== undefined) warnings.push(...oidcWarnings(config.oidc, config))
  return [...warnings, ...federationWarnings(config.federation), ...roleWarnings(config)]
}

/** Consumers compare the issuer of a token with that of the document, letter by letter (OpenID Connect Discovery 1.0 §4.3). */
function oidcWarnings (oidc: ProviderConfig, { jwtIssuer, disableJwtSvids }: ServerConfig): string[] {
  const key = 'oidc_discovery_provider'
  if (disableJwtSvids) return [`${key}: disable_jwt_svids is set: there are no keys to publish`]
  if (jwtIssuer === undefined) {
    return [`${key}: jwt_issuer is not set: JWT-SVIDs name no issuer, and OpenID Connect consumers refuse them`]
  }
  const told = issuersOf(oidc)
  return told.includes(jwtIssuer) ? [] : [
    `${key}: JWT-SVIDs name the issuer ${jwtIssuer}, the document ${told.join(' or ')}: OpenID Connect consumers refuse them`
  ]
}

function roleWarnings ({ adminIds, roles, trustDomain }: ServerConfig): string[] {
  return [
    ...adminIds.flatMap(id => roles.ofId(id).map(({ name }) =>
      `${id} is among admin_ids and may do all: role "${name}" does not narrow that`)),
    ...roles.ofUid(0).map(({ name }) => `role "${name}" is root's, who can read the server's keys and database anyway`),
    ...roles.all.flatMap(({ name, members, verbs }) => members.some(member => 'value' in member && member.value === `spiffe://${trustDomain}/`) &&
      verbs.has('entries.write') ? [`role "${name}" lets every workload of this trust domain write entries`] : [])
  ]
}

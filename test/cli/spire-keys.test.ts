import t, { type Test } from 'tap'
import { parseAgentConfig, type AgentConfig } from '../../src/agent/agent-config.ts'
import { orSpire } from '../../src/cli/hcl-config.ts'
import { codeOf } from '../../src/spiffe/errors.ts'
import { parseServerConfig, type ServerConfig } from '../../src/server/server-config.ts'

/** What a key does: a part of the configuration that is otherwise without it; or `refused`: by its name, with the reason. */
type Walked<Config> = { readonly [key: string]: readonly [hcl: string, effect: Partial<Record<keyof Config, unknown>> | 'refused'] }

/** spire-surface §6.2, each key of `server`. */
const serverKeys: Walked<ServerConfig> = {
  trust_domain: ['trust_domain = "other.org"', { trustDomain: 'other.org' }],
  bind_address: ['bind_address = "127.0.0.1"', { bindAddress: '127.0.0.1' }],
  bind_port: ['bind_port = "8443"', { bindPort: 8443 }],
  socket_path: ['socket_path = "/walked.sock"', { socketPath: '/walked.sock' }],
  data_dir: ['data_dir = "/other"', { dataDir: '/other' }],
  admin_ids: ['admin_ids = ["spiffe://a/b"]', { adminIds: ['spiffe://a/b'] }],
  agent_ttl: ['agent_ttl = "2h"', { agentTtlSeconds: 7200 }],
  default_x509_svid_ttl: ['default_x509_svid_ttl = "2h"', { defaultX509SvidTtlSeconds: 7200 }],
  default_jwt_svid_ttl: ['default_jwt_svid_ttl = "2m"', { defaultJwtSvidTtlSeconds: 120 }],
  ca_ttl: ['ca_ttl = "48h"', { caTtlSeconds: 172_800 }],
  ca_key_type: ['ca_key_type = "rsa-2048"', { caKeyType: 'rsa-2048', jwtKeyType: 'rsa-2048' }],
  jwt_key_type: ['jwt_key_type = "ec-p384"', { jwtKeyType: 'ec-p384', caKeyType: 'ec-p256' }],
  ca_subject: ['ca_subject { country = ["CH"] organization = ["O"] common_name = "C" }', {
    caSubject: { country: ['CH'], organization: ['O'], commonName: 'C' }
  }],
  jwt_issuer: ['jwt_issuer = "https://i"', { jwtIssuer: 'https://i' }],
  disable_jwt_svids: ['disable_jwt_svids = true', { disableJwtSvids: true }],
  audit_log_enabled: ['audit_log_enabled = true', { auditLog: true }],
  log_level: ['log_level = "DEBUG"', { logLevel: 'debug' }],
  log_format: ['log_format = "json"', { logFormat: 'json' }],
  log_file: ['log_file = "/l"', { logFile: '/l' }],
  log_source_location: ['log_source_location = true', { logSourceLocation: true }],
  max_attested_node_info_staleness: ['max_attested_node_info_staleness = "5s"', {
    notes: [/^max_attested_node_info_staleness is met anyway: /]
  }],
  proxy_protocol_trusted_cidrs: ['proxy_protocol_trusted_cidrs = ["10.0.0.0/8", "2001:db8::/32"]', {
    trustedProxies: [{ text: '10.0.0.0/8' }, { text: '2001:db8::/32' }]
  }],
  prune_attested_nodes_expired_for: ['prune_attested_nodes_expired_for = "720h"', {
    pruneAgents: { expiredForMs: 2_592_000_000, includeTofu: false, limit: undefined }
  }],
  prune_attested_nodes_batch_size: ['prune_attested_nodes_expired_for = "1h" prune_attested_nodes_batch_size = 7', {
    pruneAgents: { limit: 7 }
  }],
  prune_tofu_nodes: ['prune_attested_nodes_expired_for = "1h" prune_tofu_nodes = true', { pruneAgents: { includeTofu: true } }],
  profiling_enabled: ['profiling_enabled = true', 'refused'],
  profiling_port: ['profiling_port = 6060', 'refused'],
  profiling_freq: ['profiling_freq = 5', 'refused'],
  profiling_names: ['profiling_names = ["heap"]', 'refused'],
  'ratelimit.attestation': ['ratelimit { attestation = false }', { ratelimit: { attestation: false } }],
  'ratelimit.signing': ['ratelimit { signing = false }', { ratelimit: { signing: false } }],
  'federation.bundle_endpoint': [`federation { bundle_endpoint {
    address = "127.0.0.1" port = 8444 refresh_hint = "10m" profile "https_spiffe" {}
  } }`, { federation: { bundleEndpoint: { port: 8444 } } }],
  'federation.federates_with': [`federation { federates_with "p.org" {
    bundle_endpoint_url = "https://p.org" bundle_endpoint_profile "https_spiffe" { endpoint_spiffe_id = "spiffe://p.org/s" }
  } }`, { federation: { partners: [{ trustDomain: 'p.org' }] } }],
  'experimental.agent_spiffe_id_as_selector': ['experimental { agent_spiffe_id_as_selector = "true" }', {
    agentIdAsSelector: true
  }],
  'experimental.auth_opa_policy_engine': ['experimental { auth_opa_policy_engine { local { rego_path = "/r" policy_data_path = "/d" }}}', {
    apiPolicy: { regoPath: '/r', dataPath: '/d' }
  }],
  'experimental.cache_reload_interval': ['experimental { cache_reload_interval = "1s" }', { notes: [/cache_reload_interval: met anyway/] }],
  'experimental.full_cache_reload_interval': ['experimental { full_cache_reload_interval = "1h" }', {
    notes: [/full_cache_reload_interval: met anyway/]
  }],
  'experimental.events_based_cache': ['experimental { events_based_cache = "true" }', { notes: [/events_based_cache: met anyway/] }],
  'experimental.prune_events_older_than': ['experimental { prune_events_older_than = "2h" }', { changesKeptMs: 7_200_000 }],
  'experimental.event_timeout': ['experimental { event_timeout = "1h" }', { notes: [/event_timeout: met anyway/] }],
  'experimental.sql_transaction_timeout': ['experimental { sql_transaction_timeout = "1h" }', {
    notes: [/sql_transaction_timeout: met anyway/]
  }],
  'experimental.require_pq_kem': ['experimental { require_pq_kem = true }', { requirePqKem: true }],
  'experimental.wit_key_type': ['experimental { wit_key_type = "ec-p256" }', 'refused'],
  'experimental.wit_issuer': ['experimental { wit_issuer = "i" }', 'refused'],
  'experimental.feature_flags': ['experimental { feature_flags = ["wit-svid"] }', 'refused'],
  'experimental.named_pipe_name': ['experimental { named_pipe_name = "n" }', 'refused']
}

const pinned = 'trust_bundle_path = "/b"'

/** §6.3, each key of `agent`. The base pins no bundle. */
const agentKeys: Walked<AgentConfig> = {
  trust_domain: [`${pinned} trust_domain = "other.org"`, { trustDomain: 'other.org' }],
  server_address: [`${pinned} server_address = "other"`, { serverAddresses: ['other:8081'] }],
  server_port: [`${pinned} server_port = 9`, { serverAddresses: ['server:9'] }],
  data_dir: [`${pinned} data_dir = "/d"`, { dataDir: '/d' }],
  socket_path: [`${pinned} socket_path = "/walked.sock"`, { socketPath: '/walked.sock' }],
  admin_socket_path: [`${pinned} admin_socket_path = "/admin/s"`, { adminSocketPath: '/admin/s' }],
  trust_bundle_path: [pinned, { trustBundlePath: '/b' }],
  trust_bundle_url: ['trust_bundle_url = "https://b"', { trustBundleUrl: 'https://b' }],
  trust_bundle_unix_socket: ['trust_bundle_url = "http://b" trust_bundle_unix_socket = "/s"', { trustBundleUnixSocket: '/s' }],
  trust_bundle_format: [`${pinned} trust_bundle_format = "spiffe"`, { trustBundleFormat: 'spiffe' }],
  trust_bundle_spiffe_workload_api: ['trust_bundle_spiffe_workload_api = "unix:///s"', { trustBundleWorkloadApi: '/s' }],
  insecure_bootstrap: ['insecure_bootstrap = true', { insecureBootstrap: true }],
  rebootstrap_mode: [`${pinned} rebootstrap_mode = "always"`, { rebootstrap: { mode: 'always', delayMs: 600_000 } }],
  rebootstrap_delay: [`${pinned} rebootstrap_mode = "auto" rebootstrap_delay = "1m"`, { rebootstrap: { mode: 'auto', delayMs: 60_000 } }],
  join_token: [`${pinned} join_token = "t"`, { joinToken: 't' }],
  join_token_file: [`${pinned} join_token_file = "/t"`, { joinTokenFile: '/t' }],
  allow_unauthenticated_verifiers: [`${pinned} allow_unauthenticated_verifiers = true`, { allowUnauthenticatedVerifiers: true }],
  allowed_foreign_jwt_claims: [`${pinned} allowed_foreign_jwt_claims = ["iss"]`, { allowedForeignJwtClaims: ['iss'] }],
  authorized_delegates: [`${pinned} authorized_delegates = ["spiffe://example.org/d"]`, {
    authorizedDelegates: ['spiffe://example.org/d']
  }],
  availability_target: [`${pinned} availability_target = "24h"`, { availabilityTargetMs: 86_400_000 }],
  disable_sds_api: [`${pinned} disable_sds_api = true`, { disableSdsApi: true }],
  disable_workload_api: [`${pinned} disable_workload_api = true`, { disableWorkloadApi: true }],
  x509_svid_cache_max_size: [`${pinned} x509_svid_cache_max_size = 7`, { x509SvidCacheMaxSize: 7 }],
  jwt_svid_cache_max_size: [`${pinned} jwt_svid_cache_max_size = 7`, { jwtSvidCacheMaxSize: 7 }],
  workload_x509_svid_key_type: [`${pinned} workload_x509_svid_key_type = "rsa-2048"`, { workloadKeyType: 'rsa-2048' }],
  'sds.default_svid_name': [`${pinned} sds { default_svid_name = "s" }`, { sds: { defaultSvidName: 's' } }],
  'sds.default_bundle_name': [`${pinned} sds { default_bundle_name = "s" }`, { sds: { defaultBundleName: 's' } }],
  'sds.default_all_bundles_name': [`${pinned} sds { default_all_bundles_name = "s" }`, { sds: { defaultAllBundlesName: 's' } }],
  'sds.disable_spiffe_cert_validation': [`${pinned} sds { disable_spiffe_cert_validation = true }`, {
    sds: { disableSpiffeCertValidation: true }
  }],
  log_level: [`${pinned} log_level = "WARN"`, { logLevel: 'warn' }],
  log_format: [`${pinned} log_format = "json"`, { logFormat: 'json' }],
  log_file: [`${pinned} log_file = "/l"`, { logFile: '/l' }],
  log_source_location: [`${pinned} log_source_location = true`, { logSourceLocation: true }],
  log_selectors: [`${pinned} log_selectors = ["k8s:ns"]`, { logSelectors: ['k8s:ns'] }],
  profiling_enabled: [`${pinned} profiling_enabled = true`, 'refused'],
  profiling_port: [`${pinned} profiling_port = 6060`, 'refused'],
  profiling_freq: [`${pinned} profiling_freq = 5`, 'refused'],
  profiling_names: [`${pinned} profiling_names = ["heap"]`, 'refused'],
  'experimental.sync_interval': [`${pinned} experimental { sync_interval = "1s" }`, { syncIntervalSeconds: 1 }],
  'experimental.use_sync_authorized_entries': [`${pinned} experimental { use_sync_authorized_entries = false }`, { syncForm: 'whole' }],
  'experimental.jwt_svid_cache_hit_timeout': [`${pinned} experimental { jwt_svid_cache_hit_timeout = "7s" }`, {
    jwtCacheHitTimeoutMs: 7000
  }],
  'experimental.require_pq_kem': [`${pinned} experimental { require_pq_kem = true }`, { requirePqKem: true }],
  'experimental.ratelimit': [`${pinned} experimental { ratelimit { fetch_x509_svid = 5 fetch_jwt_svid = "0" } }`, {
    rateLimits: [{ methods: ['/SpiffeWorkloadAPI/FetchX509SVID'], perSecond: 5 }]
  }],
  'experimental.broker': [`${pinned} experimental { broker { socket_path = "/broker/s" brokers = [
    { id = "spiffe://example.org/b" allowed_reference_types = [{ type_url = "*" }] }
  ] } }`, { broker: { socketPath: '/broker/s' } }],
  'experimental.feature_flags': [`${pinned} experimental { feature_flags = ["x"] }`, 'refused'],
  'experimental.named_pipe_name': [`${pinned} experimental { named_pipe_name = "n" }`, 'refused'],
  'experimental.admin_named_pipe_name': [`${pinned} experimental { admin_named_pipe_name = "n" }`, 'refused']
}

/** §6.4, of server and agent alike: whole blocks. */
const sharedBlocks: Walked<ServerConfig & AgentConfig> = {
  'telemetry.Prometheus': ['telemetry { Prometheus { port = 9988 } }', { prometheus: { host: 'localhost', port: 9988 } }],
  'telemetry.Prometheus.host': ['telemetry { Prometheus { host = "h" port = 1 } }', { prometheus: { host: 'h' } }],
  'telemetry.Prometheus.tls': ['telemetry { Prometheus { port = 1 tls { cert_file = "c" key_file = "k" client_ca_file = "a" } } }', {
    prometheus: { tls: { shown: { certificatePath: 'c', keyPath: 'k' }, readers: { caPath: 'a' } } }
  }],
  'telemetry.Prometheus.tls.use_spire_svid': [`telemetry { Prometheus { port = 1 tls {
    use_spire_svid = true authorized_spiffe_ids = ["spiffe://example.org/p", "spiffe://other.org/p"]
  } } }`, { prometheus: { tls: { shown: 'svid', readers: { ids: new Set(['spiffe://example.org/p', 'spiffe://other.org/p']) } } } }],
  'telemetry.DogStatsd': ['telemetry { DogStatsd = [{ address = "a:1" }, { address = "b" }, { address = "[::1]:2" }, { address = "unix:///d" }] }', {
    telemetry: { dogStatsd: [{ host: 'a', port: 1 }, { host: 'b', port: 8125 }, { host: '::1', port: 2 }, { path: '/d' }] }
  }],
  'telemetry.Statsd': ['telemetry { Statsd { address = "a:1" } }', { telemetry: { statsd: [{ host: 'a', port: 1 }] } }],
  'telemetry.M3': ['telemetry { M3 = [{ address = "a:1" env = "e" }] }', 'refused'],
  'telemetry.InMem': ['telemetry { InMem {} }', { telemetry: { inMem: true } }],
  'telemetry.MetricPrefix': ['telemetry { MetricPrefix = "p" }', { telemetry: { metricPrefix: 'p' } }],
  'telemetry.EnableTrustDomainLabel': ['telemetry { EnableTrustDomainLabel = true }', { telemetry: { trustDomainLabel: true } }],
  'telemetry.EnableHostnameLabel': ['telemetry { EnableHostnameLabel = false }', { telemetry: { hostLabel: false } }],
  'telemetry.AllowedPrefixes': ['telemetry { AllowedPrefixes = ["p"] }', { telemetry: { filters: { allowedPrefixes: ['p'] } } }],
  'telemetry.BlockedPrefixes': ['telemetry { BlockedPrefixes = ["p"] }', { telemetry: { filters: { blockedPrefixes: ['p'] } } }],
  'telemetry.AllowedLabels': ['telemetry { AllowedLabels = ["p"] }', { telemetry: { filters: { allowedLabels: ['p'] } } }],
  'telemetry.BlockedLabels': ['telemetry { BlockedLabels = ["p"] }', { telemetry: { filters: { blockedLabels: ['p'] } } }],
  'health_checks.listener_enabled': ['health_checks { listener_enabled = true }', {
    healthChecks: { host: 'localhost', port: 80, livePath: '/live', readyPath: '/ready' }
  }],
  'health_checks.bind_address': ['health_checks { listener_enabled = true bind_address = "0.0.0.0" }', {
    healthChecks: { host: '0.0.0.0' }
  }],
  'health_checks.bind_port': ['health_checks { listener_enabled = true bind_port = "8080" }', { healthChecks: { port: 8080 } }],
  'health_checks.live_path': ['health_checks { listener_enabled = true live_path = "/l" }', { healthChecks: { livePath: '/l' } }],
  'health_checks.ready_path': ['health_checks { listener_enabled = true ready_path = "/r" }', { healthChecks: { readyPath: '/r' } }]
}

/** §7.4, each key of the DataStore `sql`, beside `database_type` and `connection_string`. */
const sqlKeys: Walked<ServerConfig> = {
  ro_connection_string: ['ro_connection_string = "postgres://u@replica/d"', 'refused'],
  root_ca_path: ['root_ca_path = "/ca"', 'refused'],
  client_cert_path: ['client_cert_path = "/c"', 'refused'],
  client_key_path: ['client_key_path = "/k"', 'refused'],
  max_open_conns: ['max_open_conns = 7', { datastorePool: { connections: 7 } }],
  max_idle_conns: ['max_idle_conns = "3"', { datastorePool: { idleConnections: 3 } }],
  conn_max_lifetime: ['conn_max_lifetime = "5m"', { datastorePool: { lifetimeMs: 300_000 } }],
  disable_migration: ['disable_migration = true', { migrateDatastore: false }]
}

/** What asks for what is so anyway, SPIRE's defaults above all. */
const serverAsIs = `max_attested_node_info_staleness = "" proxy_protocol_trusted_cidrs = []
  profiling_enabled = "false" profiling_names = []
  experimental { agent_spiffe_id_as_selector = false cache_reload_interval = "" require_pq_kem = false
    feature_flags = [] named_pipe_name = "" }`
const agentAsIs = `${pinned} log_selectors = [] profiling_enabled = false trust_bundle_spiffe_workload_api = ""
  experimental { require_pq_kem = false feature_flags = [] }`

const telemetryAsIs = `telemetry { DogStatsd = [] Statsd = [] M3 = [] EnableTrustDomainLabel = false EnableHostnameLabel = true
  AllowedPrefixes = [] BlockedPrefixes = [] AllowedLabels = [] BlockedLabels = [] }`

const server = (keys: string, blocks = '') => {
  const needed = without('trust_domain', keys, '"example.org"') + without('data_dir', keys, '"/d"')
  const file = { name: 'server.conf', text: `server {\n${needed}${keys}\n}\n${blocks}` }
  return parseServerConfig(orSpire({ file }, 'server', { program: 'spire-server' }))
}
const agent = (keys: string, blocks = '') => {
  const needed = [['trust_domain', '"example.org"'], ['server_address', '"server"'], ['server_port', '8081']] as const
  const before = needed.map(([key, value]) => without(key, keys, value)).join('')
  const file = { name: 'agent.conf', text: `agent {\n${before}${keys}\n}\n${blocks}` }
  return parseAgentConfig(orSpire({ file }, 'agent', { program: 'spire-agent' }))
}

/** What a configuration must have, unless it is what is tried. */
function without (key: string, keys: string, value: string): string {
  return new RegExp(`\\b${key} =`).test(keys) ? '' : `${key} = ${value}\n`
}

function walk<Config> (t: Test, walked: Walked<Config>, block: string, read: (hcl: string) => Config, plain: Config): void {
  for (const [key, [hcl, effect]] of Object.entries(walked)) {
    const name = block === '' ? key : `${block}.${key}`
    if (effect !== 'refused') {
      const config = read(hcl)
      t.match(config, effect, name)
      t.notMatch(plain, effect, `${name} is what makes it so`)
      continue
    }
    try {
      read(hcl)
      t.fail(`${name} was passed over`)
    } catch (error) {
      t.equal(codeOf(error), 'config_invalid', name)
      const line = (error as Error).message.split('\n')
      t.equal(line.length, 1, `${name} alone is told`)
      t.match(line[0], new RegExp(`^(server|agent)\\.conf:\\d+: ${name.replaceAll('.', '\\.')}: is not offered: \\w.{15}`))
    }
  }
}

void t.test('each key of SPIRE\'s server is read, or refused by name (spire-surface §6.2, §6.4)', async t => {
  const plain = server('')
  walk(t, serverKeys, 'server', keys => server(keys), plain)
  walk<ServerConfig>(t, sharedBlocks, '', blocks => server('', blocks), plain)
  const sql = (keys: string) => `plugins { DataStore "sql" { plugin_data { ${keys} } } }`
  const store = (keys: string) => sql(`database_type = "postgres" connection_string = "postgres://u@db/d" ${keys}`)
  walk<ServerConfig>(t, sqlKeys, 'plugins.DataStore.sql.plugin_data', keys => server('', store(keys)), server('', store('')))
  t.match(server('', store('ro_connection_string = "" root_ca_path = "" conn_max_lifetime = "" disable_migration = false')), {
    datastoreUrl: 'postgres://u@db/d?sslmode=require', migrateDatastore: true, notes: []
  })
  t.match(server('', sql('database_type = "sqlite3" connection_string = "d" max_open_conns = 5')), {
    notes: [/^plugins.DataStore.sql: max_open_conns: met anyway: a SQLite file has one connection/]
  })
  for (const [blocks, message] of [
    [store('max_open_conns = 0'), /max_open_conns: must be 1 to 1000$/],
    [store('max_idle_conns = -1'), /max_idle_conns: must be at least 0$/],
    [sql('database_type "aws_postgres" { region = "r" } connection_string = "d"'),
      /^server.conf:\d+: plugins.DataStore.sql.plugin_data.database_type: logging in by IAM is not offered: use postgres/],
    [sql('database_type = "mysql" connection_string = "d"'), /database_type: is not offered: .*SQLite/],
    [sql('database_type = "oracle" connection_string = "d"'), /database_type: must be one of sqlite3, postgres$/],
    [sql('connection_string = "d"'), /database_type: is required$/]
  ] as const) t.throws(() => server('', blocks), { code: 'config_invalid', message }, blocks)
  t.throws(() => server('datastore_pool { max_connections = 5 }', store('max_open_conns = 5')), {
    code: 'config_invalid', message: /max_connections: is set beside max_open_conns/
  })
  t.same(server(serverAsIs), plain, 'what is so anyway may be said')
  for (const [asked, ms, note] of [
    ['5s', 5_000, undefined], ['30s', 10_000, /is met anyway: what is known of agents is at most 10s old/],
    ['0s', 10_000, /of 0s: agents are judged by a view that follows each commit, and is at most 10s old/]
  ] as const) {
    const config = server(`datastore_url = "postgres://u@db/x" max_attested_node_info_staleness = "${asked}"`)
    t.match(config, { maxStaleMs: ms, notes: note === undefined ? [] : [note] }, `${asked} with PostgreSQL`)
    t.equal(config.notes.length, note === undefined ? 0 : 1)
  }
  const staleness = 'max_attested_node_info_staleness'
  for (const [keys, message] of [
    [`datastore_url = "postgres://u@db/x" ${staleness} = "2s"`, /staleness: must be at least 3s with PostgreSQL, or 0s$/],
    [`signing_during_database_outage = true ${staleness} = "5s"`, /staleness: says the opposite of signing_during_database_outage/],
    ['experimental { event_timeout = "1m" sql_transaction_timeout = "1m" }', /sql_transaction_timeout: is the old name of event_timeout/],
    ['experimental { cache_reload_interval = "fast" }', /cache_reload_interval: must be a duration/],
    ['experimental { prune_events_older_than = "0s" }', /prune_events_older_than: must be at least 1s$/]
  ] as const) t.throws(() => server(keys), { code: 'config_invalid', message }, keys)
  t.same(server('', telemetryAsIs), plain)
  t.throws(() => server('prune_tofu_nodes = true'), { code: 'config_invalid', message: /says nothing without/ })
  t.throws(() => server('proxy_protocol_trusted_cidrs = ["10.0.0.1/8"]'), { code: 'config_invalid', message: /no bits below its mask/ })
  t.throws(() => server('profiling_enabld = true'), { code: 'config_invalid', message: /unknown key; did you mean profiling_enabled/ })
})

void t.test('each key of SPIRE\'s agent is read, or refused by name (§6.3, §6.4)', async t => {
  const plain = agent('trust_bundle_url = "https://plain"')
  walk(t, agentKeys, 'agent', keys => agent(keys), plain)
  walk<AgentConfig>(t, sharedBlocks, '', blocks => agent(pinned, blocks), plain)
  t.same(agent(agentAsIs), agent(pinned))
  for (const [keys, message] of [
    ['trust_bundle_url = "http://b"', /must be an https:/],
    ['trust_bundle_url = "https://b" trust_bundle_unix_socket = "/s"', /http:\/\/ URL/],
    [`${pinned} trust_bundle_spiffe_workload_api = "unix:///s"`, /trust_bundle_spiffe_workload_api: is set beside trust_bundle_path/],
    ['trust_bundle_url = "https://b" trust_bundle_spiffe_workload_api = "unix:///s"', /is set beside trust_bundle_url/],
    ['insecure_bootstrap = true trust_bundle_spiffe_workload_api = "unix:///s"', /insecure_bootstrap: must not be true when trust_bundle_s/],
    ['trust_bundle_unix_socket = "/b" trust_bundle_spiffe_workload_api = "unix:///s"', /trust_bundle_unix_socket: needs trust_bundle_url/],
    ['trust_bundle_spiffe_workload_api = "unix:///a/s" socket_path = "/a/s"', /is this agent's own socket/],
    ['trust_bundle_spiffe_workload_api = "tcp://127.0.0.1:80"', /must be a Unix socket/],
    ['trust_bundle_spiffe_workload_api = ""', /trust_bundle_path: is required unless/],
    [`${pinned} availability_target = "1h"`, /at least 24h/],
    [`${pinned} experimental { jwt_svid_cache_hit_timeout = "1m" }`, /at most 30s/],
    [`${pinned} experimental { jwt_svid_cache_hit_timeout = "1s" }`, /at least 5s/],
    [`${pinned} experimental { ratelimit { fetch_secrets = -1 } }`, /fetch_secrets: must not be negative/],
    [`${pinned} experimental { ratelimit { fetch_all = 1 } }`, /unknown key/],
    [`${pinned} rebootstrap_mode = "maybe"`, /never, auto, always/]
  ] as const) t.throws(() => agent(keys), { code: 'config_invalid', message }, keys)
})

void t.test('what a block `telemetry` cannot mean is refused (§6.4)', async t => {
  const tls = (keys: string) => `Prometheus { port = 1 tls { ${keys} } }`
  for (const [keys, message] of [
    [tls(''), /Prometheus.tls: must have cert_file and key_file, unless use_spire_svid/],
    [tls('cert_file = "c"'), /must have cert_file and key_file/],
    [tls('use_spire_svid = true cert_file = "c"'), /cert_file and key_file or use_spire_svid, not both/],
    [tls('use_spire_svid = true client_ca_file = "c"'), /no client_ca_file beside use_spire_svid/],
    [tls('cert_file = "c" key_file = "k" client_ca_file = "a" authorized_spiffe_ids = ["spiffe://a/b"]'), /not both/],
    [tls('use_spire_svid = true authorized_spiffe_ids = ["https://a/b"]'), /authorized_spiffe_ids\.0: /],
    [tls('use_spire_svid = true certfile = "c"'), /unknown key; did you mean cert_file/],
    ['Statsd = [{ address = "a" }]', /Statsd\.0\.address: must be host:port/],
    ['Statsd = [{ address = "a:0" }]', /port that is not 0/],
    ['Statsd = [{ addres = "a:1" }]', /unknown key/],
    [`DogStatsd = [{ address = "unix:///${'d'.repeat(107)}" }]`, /DogStatsd\.0\.address: must be host or .* at most 107 bytes/],
    ['DogStatsd = [{ address = "unix://d" }]', /DogStatsd\.0\.address: must be host or/],
    ['DogStatsd = [{ address = "" }]', /must not be empty/],
    ['InMem { interval = "1s" }', /unknown key/],
    ['MetricPrefix = "assay_server"', /must not begin with assay/],
    ['MetricPrefix = "a b"', /must begin with a letter/]
  ] as const) t.throws(() => server('', `telemetry { ${keys} }`), { code: 'config_invalid', message }, keys)
})

import t from 'tap'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { usualTelemetry } from '../../src/rpc/telemetry/telemetry-config.ts'
import { serverConfigWarnings } from '../../src/server/server-config.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { agent, agentBase, server, serverBase } from '../fakes/configs.ts'

const joinToken = [{ name: 'join_token', config: {} }]

/** Of types of which a server needs none. */
const none = { UpstreamAuthority: [], BundlePublisher: [], CredentialComposer: [], Notifier: [] }

void t.test('a server configuration has SPIRE\'s defaults', async t => {
  t.same(server(serverBase), {
    trustDomain: 'example.org',
    bindAddress: '0.0.0.0',
    bindPort: 8081,
    requirePqKem: false,
    trustedProxies: [],
    socketPath: '/tmp/assay-server/private/api.sock',
    dataDir: '/data',
    datastoreUrl: '/data/datastore.sqlite3',
    datastoreDirectUrl: undefined,
    datastorePool: {
      connections: 10, idleConnections: Infinity, lifetimeMs: Infinity,
      connectTimeoutMs: 5_000, statementTimeoutMs: 15_000, answerTimeoutMs: 20_000, idleTransactionMs: 5_000
    },
    migrateDatastore: true,
    maxStaleMs: 10_000,
    changesKeptMs: 3_600_000,
    caTtlSeconds: 86_400,
    caKeyType: 'ec-p256',
    jwtKeyType: 'ec-p256',
    defaultX509SvidTtlSeconds: 3_600,
    defaultJwtSvidTtlSeconds: 300,
    agentTtlSeconds: 3_600,
    agentIdAsSelector: false,
    jwtIssuer: undefined,
    disableJwtSvids: false,
    adminIds: [],
    federation: { bundleEndpoint: undefined, webCaPath: undefined, leastRefreshMs: 60_000, partners: [], copies: new Map() },
    oidc: undefined,
    roles: { all: [] },
    socketRequiresRole: false,
    apiPolicy: undefined,
    plugins: { KeyManager: [{ name: 'disk', config: {} }], NodeAttestor: joinToken, ...none },
    caSubject: { country: ['US'], organization: ['SPIFFE'], commonName: '' },
    pruneAgents: undefined,
    auditLog: false,
    ratelimit: { attestation: true, signing: true },
    logLevel: 'info',
    logFile: undefined,
    logFormat: 'json',
    logSourceLocation: false,
    prometheus: undefined,
    telemetry: usualTelemetry,
    healthChecks: undefined,
    notes: []
  })
  t.same(serverConfigWarnings(server(serverBase)), [])
  t.ok(server(serverBase).defaultJwtSvidTtlSeconds <= 300, 'JWT-12: a JWT-SVID lives for minutes unless an operator wants otherwise')
})

void t.test('what a key comes to is said, and is no warning', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-notes-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'server.yaml')
  await writeFile(file, `${serverBase}  experimental: { cache_reload_interval: 5s, event_timeout: 1m }\n`)
  const { code, stdout, stderr } = await runAssay(['server', 'validate', '-config', file])
  t.match({ code, stdout, stderr }, {
    code: 0, stdout: /is valid/,
    stderr: /^Note: experimental: cache_reload_interval, event_timeout: met anyway: changes are followed in the order of .*\n$/
  })
})

void t.test('each key of a server configuration is read', async t => {
  const config = server(`${serverBase}
  bind_address: 127.0.0.1
  bind_port: 0
  socket_path: /run/a.sock
  datastore_direct_url: postgres://u@db1,db2/assay
  datastore_pool: { max_connections: 3, connect_timeout: 500ms, statement_timeout: 2s }
  admin_ids: [spiffe://example.org/admin, spiffe://other.test/admin]
  roles: [{ name: ops, members: [spiffe://other.test/ops/*], uids: [1001], verbs: [cluster.read] }]
  socket_requires_role: true
  experimental: { auth_opa_policy_engine: { local: { rego_path: /p.rego, policy_data_path: /p.json } } }
  agent_ttl: 2h
  default_x509_svid_ttl: 30m
  default_jwt_svid_ttl: 90s
  ca_ttl: 72h
  ca_key_type: ec-p384
  ca_subject: { country: [CH], organization: [Example], common_name: Root }
  jwt_issuer: https://issuer.test
  disable_jwt_svids: true
  ratelimit: { attestation: false }
  log_level: DEBUG
  log_file: /var/log/assay.log
  log_format: TEXT
  log_source_location: true
plugins:
  KeyManager: { database: { plugin_data: { key_encryption_key_file: /run/kek } } }
  DataStore: { sql: { plugin_data: { database_type: postgres, connection_string: "postgres://u:p@db/assay" } } }
  NodeAttestor: { join_token: { plugin_data: } }
telemetry: { Prometheus: { port: 9988 } }
health_checks: { listener_enabled: true, bind_port: 8080, live_path: /up }
`)
  t.match(config, {
    bindAddress: '127.0.0.1',
    bindPort: 0,
    requirePqKem: false,
    socketPath: '/run/a.sock',
    datastoreUrl: 'postgres://u:p@db/assay',
    datastoreDirectUrl: 'postgres://u@db1,db2/assay',
    datastorePool: { connections: 3, connectTimeoutMs: 500, statementTimeoutMs: 2_000, answerTimeoutMs: 7_000 },
    adminIds: ['spiffe://example.org/admin', 'spiffe://other.test/admin'],
    roles: { all: [{ name: 'ops', uids: [1001] }] },
    socketRequiresRole: true,
    apiPolicy: { regoPath: '/p.rego', dataPath: '/p.json' },
    agentTtlSeconds: 7_200,
    defaultX509SvidTtlSeconds: 1_800,
    defaultJwtSvidTtlSeconds: 90,
    caTtlSeconds: 259_200,
    caKeyType: 'ec-p384',
    jwtKeyType: 'ec-p384',
    caSubject: { country: ['CH'], organization: ['Example'], commonName: 'Root' },
    jwtIssuer: 'https://issuer.test',
    disableJwtSvids: true,
    ratelimit: { attestation: false, signing: true },
    logLevel: 'debug',
    logFile: '/var/log/assay.log',
    logFormat: 'text',
    logSourceLocation: true,
    plugins: { KeyManager: [{ name: 'database', config: { key_encryption_key_file: '/run/kek' } }], UpstreamAuthority: [] },
    prometheus: { host: 'localhost', port: 9988 },
    healthChecks: { host: 'localhost', port: 8080, livePath: '/up', readyPath: '/ready' }
  })
  t.same(serverConfigWarnings(config), [])
  t.match(serverConfigWarnings(server(`${serverBase}plugins: { KeyManager: { memory: {} } }`)), [/memory key manager/])
  t.match(serverConfigWarnings(server(`${serverBase}  ca_ttl: 1h`)), [
    /default_x509_svid_ttl \(3600s\) is longer than 55 % of ca_ttl \(1980s\)/, /agent_ttl/
  ])
  t.same(
    server('{"server":{"trust_domain":"a","data_dir":"b"},"plugins":{"KeyManager":[{"memory":{"plugin_data":{}}}]}}').plugins,
    { KeyManager: [{ name: 'memory', config: {} }], NodeAttestor: joinToken, ...none },
    'SPIRE\'s JSON form, with lists of plugins'
  )
  t.same(
    server(`${serverBase}plugins: { KeyManager: { disk: { plugin_data: { keys_path: /keys } } } }`).plugins,
    { KeyManager: [{ name: 'disk', config: { keys_path: '/keys' } }], NodeAttestor: joinToken, ...none }
  )
  const upstream = (text: string) => server(`${serverBase}plugins: { UpstreamAuthority: ${text} }`).plugins.UpstreamAuthority
  t.same(upstream('{ disk: { plugin_data: { cert_file_path: /c, key_file_path: /k } } }'), [
    { name: 'disk', config: { cert_file_path: '/c', key_file_path: '/k' } }
  ])
  t.same(upstream('[{ spire: { plugin_data: { server_address: up, server_port: "8081", workload_api_socket: /s } } }]'), [
    {
      name: 'spire',
      config: { server_address: 'up', server_port: 8081, workload_api_socket: '/s', experimental: { require_pq_kem: false } }
    }
  ], 'SPIRE writes the port in quotes')
  for (const wrong of ['{ disk: {} }', '{ spire: { plugin_data: { server_address: a, server_port: "0", workload_api_socket: /s } } }',
    '{ disk: { plugin_data: { cert_file_path: /c, key_file_path: /k } }, spire: { plugin_data: { server_address: a, server_port: 1, ' +
    'workload_api_socket: /s } } }']) {
    t.throws(() => upstream(wrong), { code: 'config_invalid', message: /UpstreamAuthority/ }, wrong)
  }
})

void t.test('each key of an agent configuration is read', async t => {
  t.same(agent(`${agentBase}  insecure_bootstrap: true`), {
    trustDomain: 'example.org',
    serverAddresses: ['server.test:8081'],
    socketPath: '/tmp/assay-agent/public/api.sock',
    authorizedDelegates: [],
    dataDir: '.',
    regoKeys: {},
    trustBundlePath: undefined,
    trustBundleUrl: undefined,
    trustBundleFormat: 'pem',
    insecureBootstrap: true,
    rebootstrap: undefined,
    trustBundleUnixSocket: undefined,
    rateLimits: [],
    requirePqKem: false,
    syncForm: 'changes',
    jwtCacheHitTimeoutMs: undefined,
    availabilityTargetMs: undefined,
    joinToken: undefined,
    joinTokenFile: undefined,
    disableSdsApi: false,
    disableWorkloadApi: false,
    allowUnauthenticatedVerifiers: false,
    allowedForeignJwtClaims: [],
    workloadKeyType: 'ec-p256',
    x509SvidCacheMaxSize: 1_000,
    jwtSvidCacheMaxSize: 1_000,
    syncIntervalSeconds: 5,
    offlineMaxAgeSeconds: 86_400,
    keepWorkloadKeys: true,
    takeOver: false,
    sds: {
      defaultSvidName: 'default',
      defaultBundleName: 'ROOTCA',
      defaultAllBundlesName: 'ALL',
      systemRootsFile: undefined,
      disableSpiffeCertValidation: false,
      requireSecurityHeader: false
    },
    plugins: {
      KeyManager: [{ name: 'disk', config: {} }],
      Sealing: [{ name: 'file', config: {} }],
      NodeAttestor: [{ name: 'join_token', config: {} }],
      WorkloadAttestor: [{ name: 'unix', config: { discoverWorkloadPath: false, workloadSizeLimit: 0 } }],
      SVIDStore: []
    },
    logLevel: 'info',
    logFile: undefined,
    logFormat: 'json',
    logSourceLocation: false,
    logSelectors: [],
    prometheus: undefined,
    telemetry: usualTelemetry,
    healthChecks: undefined
  })
  t.match(agent(`${agentBase}
  trust_bundle_path: bundle.json
  trust_bundle_format: spiffe
  join_token_file: token
  data_dir: /data
  allow_unauthenticated_verifiers: true
  disable_sds_api: true
  disable_workload_api: true
  allowed_foreign_jwt_claims: [iss]
  workload_x509_svid_key_type: rsa-2048
  x509_svid_cache_max_size: 7
  offline_max_age: 2h
  keep_workload_keys: false
  take_over: true
  sds: { default_svid_name: mine }
  experimental: { sync_interval: 200ms }
plugins:
  KeyManager: { disk: { plugin_data: { directory: /keys } } }
  NodeAttestor: { join_token: }
  WorkloadAttestor: { unix: { plugin_data: { discover_workload_path: true, workload_size_limit: -1 } } }
`), {
    trustBundlePath: 'bundle.json',
    trustBundleFormat: 'spiffe',
    joinTokenFile: 'token',
    allowUnauthenticatedVerifiers: true,
    disableSdsApi: true,
    disableWorkloadApi: true,
    allowedForeignJwtClaims: ['iss'],
    workloadKeyType: 'rsa-2048',
    x509SvidCacheMaxSize: 7,
    syncIntervalSeconds: 0.2,
    offlineMaxAgeSeconds: 7200,
    keepWorkloadKeys: false,
    takeOver: true,
    sds: { defaultSvidName: 'mine', defaultBundleName: 'ROOTCA' },
    plugins: {
      KeyManager: [{ name: 'disk', config: { directory: '/keys' } }],
      NodeAttestor: [{ name: 'join_token', config: {} }],
      WorkloadAttestor: [{ name: 'unix', config: { discoverWorkloadPath: true, workloadSizeLimit: -1 } }]
    }
  })
})

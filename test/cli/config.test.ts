import t from 'tap'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseAgentConfig } from '../../src/agent/agent-config.ts'
import { usualTelemetry } from '../../src/rpc/telemetry/telemetry-config.ts'
import { expandEnvironment } from '../../src/runtime/config-file.ts'
import { formatDuration, parseDuration } from '../../src/runtime/duration.ts'
import { nearestWord } from '../../src/runtime/nearest-word.ts'
import { parseServerConfig, serverConfigWarnings } from '../../src/server/server-config.ts'
import { runAssay } from '../fakes/run-assay.ts'

const server = (text: string) => parseServerConfig({ file: { name: 'server.yaml', text } })
const agent = (text: string) => parseAgentConfig({ file: { name: 'agent.yaml', text } })
const serverBase = 'server:\n  trust_domain: example.org\n  data_dir: /data\n'
const agentBase = 'agent:\n  trust_domain: example.org\n  server_address: server.test\n  server_port: 8081\n'

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

void t.test('a configuration is refused with file, line, key and rule', async t => {
  const refused: Record<string, [() => unknown, string | RegExp]> = {
    'unknown key, with the nearest': [
      () => server(`${serverBase}  ca_tll: 1h`),
      'server.yaml:4: server.ca_tll: unknown key; did you mean ca_ttl?'
    ],
    'unknown key deep inside': [
      () => server(`${serverBase}  ca_subject:\n    contry: [US]`),
      'server.yaml:5: server.ca_subject.contry: unknown key; did you mean country?'
    ],
    'unknown key at the top': [() => server(`${serverBase}telemtry: {}`), 'server.yaml:4: telemtry: unknown key; did you mean telemetry?'],
    'unknown key without a near one': [
      () => agent(`${agentBase}  insecure_bootstrap: true\nplugins:\n  WorkloadAttestor:\n    kubernetes: {}`),
      'agent.yaml:8: plugins.WorkloadAttestor.kubernetes: unknown key; known here: unix'
    ],
    'required key': [() => server('server:\n  trust_domain: example.org'), 'server.yaml:1: server.data_dir: is required'],
    'trust domain': [() => server('server:\n  data_dir: a\n  trust_domain: Example.org'),
      'server.yaml:3: server.trust_domain: trust domain has a character other than a-z 0-9 . - _: "Example.org"'],
    'duration without a unit': [
      () => server(`${serverBase}  ca_ttl: 3600`),
      'server.yaml:4: server.ca_ttl: must be a duration such as "1h", "5m" or "200ms"'
    ],
    'duration of nothing': [() => server(`${serverBase}  ca_ttl: 0s`), 'server.yaml:4: server.ca_ttl: must be at least 1s'],
    'choice': [
      () => server(`${serverBase}  ca_key_type: dsa`),
      'server.yaml:4: server.ca_key_type: must be one of ec-p256, ec-p384, rsa-2048, rsa-4096'
    ],
    'number as text': [() => server(`${serverBase}  bind_port: "8081"`), 'server.yaml:4: server.bind_port: must be a number'],
    'port range': [() => server(`${serverBase}  bind_port: 65536`), 'server.yaml:4: server.bind_port: must be 0 to 65535'],
    'boolean as text': [
      () => server(`${serverBase}  disable_jwt_svids: "no"`),
      'server.yaml:4: server.disable_jwt_svids: must be a boolean'
    ],
    'log level': [
      () => server(`${serverBase}  log_level: loud`),
      'server.yaml:4: server.log_level: must be one of PANIC, FATAL, ERROR, WARN, WARNING, INFO, DEBUG, TRACE'
    ],
    'ID in a list': [() => server(`${serverBase}  admin_ids:\n  - spiffe://a/b\n  - nonsense`),
      'server.yaml:6: server.admin_ids.1: invalid SPIFFE ID "nonsense": the scheme is not spiffe://'],
    'two key managers': [
      () => server(`${serverBase}plugins:\n  KeyManager:\n    memory: { plugin_data: {} }\n    disk: { plugin_data: { keys_path: k } }`),
      'server.yaml:5: plugins.KeyManager: must name one of disk, memory'
    ],
    'unknown key of a plugin, with the nearest': [
      () => server(`${serverBase}plugins:\n  KeyManager:\n    disk:\n      plugin_data:\n        keys_pth: k`),
      'server.yaml:8: plugins.KeyManager.disk.plugin_data.keys_pth: unknown key; did you mean keys_path?'
    ],
    'unknown plugin of a kind that is only named': [
      () => server(`${serverBase}plugins: { NodeAttestor: { aws_iid: {} } }`),
      'server.yaml:4: plugins.NodeAttestor.aws_iid: unknown key; known here: join_token, k8s_psat, x509pop, sshpop, http_challenge'
    ],
    'attestor that is refused by name, on a server': [
      () => server(`${serverBase}plugins: { NodeAttestor: { k8s_sat: { plugin_data: { clusters: {} } } } }`),
      new RegExp('^server.yaml:4: plugins.NodeAttestor.k8s_sat: is not offered, since such tokens live for ever .* use k8s_psat')
    ],
    'attestor that is refused by name, on an agent': [
      () => agent(`${agentBase}  insecure_bootstrap: true\nplugins:\n  NodeAttestor:\n  - k8s_sat: { plugin_data: { cluster: a } }`),
      /plugins.NodeAttestor.k8s_sat: is not offered, .* use k8s_psat/
    ],
    'value of a plugin': [
      () => agent(
        `${agentBase}  insecure_bootstrap: true\nplugins:\n  WorkloadAttestor:\n  - unix: { plugin_data: { workload_size_limit: 1.5 } }`
      ),
      'agent.yaml:7: plugins.WorkloadAttestor.unix.plugin_data.workload_size_limit: must be a whole number'
    ],
    'database type and URL disagree': [
      () => server(`${serverBase}plugins: { DataStore: { sql: { plugin_data: { database_type: postgres, connection_string: a.db } } } }`),
      /^server.yaml:4: plugins.DataStore.sql.plugin_data.connection_string: the PostgreSQL address .* dbname=/
    ],
    'an address of a database': [() => server(`${serverBase}  datastore_url: postgres://u:hunter2@db/x?sslmod=require`),
      /^server.yaml:4: server.datastore_url: the PostgreSQL address cannot be used: (?!.*hunter2).*did you mean sslmode\?$/],
    'an address past a pooler': [() => server(`${serverBase}  datastore_direct_url: /some/file`),
      /server.datastore_direct_url: the PostgreSQL address/],
    'an address past a pooler, to nowhere': [() => server(`${serverBase}  datastore_direct_url: postgres://u@db/x`),
      /^server.yaml:4: server.datastore_direct_url: leads past a pooler .* database here is SQLite; leave it out, or set datastore_url/],
    'keys that die with each of many servers': [
      () => server(`${serverBase}  datastore_url: postgres://u@db/x\nplugins: { KeyManager: { memory: {} } }`),
      /^server.yaml:5: plugins.KeyManager.memory: cannot be used with PostgreSQL: .* use database, whose keys all servers share, or disk$/],
    'connections': [() => server(`${serverBase}  datastore_pool: { max_connections: 0 }`),
      'server.yaml:4: server.datastore_pool.max_connections: must be 1 to 1000'],
    'same key twice': [() => server(`${serverBase}  data_dir: /other`), 'server.yaml:4: the same key twice in one map'],
    'broken YAML': [() => server('server: {'), 'server.yaml:1: not valid YAML (bad indent)'],
    'no map': [() => server('- a'), 'server.yaml: must be a map'],
    'aliases that explode': [
      () => server(`a: &a [x, x]\nb: &b [${'*a, '.repeat(20)}]\nc: &c [${'*b, '.repeat(20)}]\nd: [${'*c, '.repeat(20)}]`),
      'server.yaml: has aliases that expand too far'
    ],
    'too long': [() => server('#'.repeat(1_048_577)), 'server.yaml: longer than 1048576 characters'],
    'no bootstrap': [
      () => agent(agentBase),
      'agent.yaml:1: agent.trust_bundle_path: is required unless trust_bundle_url or trust_bundle_spiffe_workload_api is set, or ' +
        'insecure_bootstrap is true'
    ],
    'two bootstraps': [() => agent(`${agentBase}  insecure_bootstrap: true\n  trust_bundle_path: a`),
      'agent.yaml:5: agent.insecure_bootstrap: must not be true when trust_bundle_path is set'],
    'two bundles': [() => agent(`${agentBase}  trust_bundle_url: https://a.test/b\n  trust_bundle_path: a`),
      'agent.yaml:5: agent.trust_bundle_url: is set beside trust_bundle_path; keep one of them'],
    'a bundle from the web, and no bundle': [() => agent(`${agentBase}  insecure_bootstrap: true\n  trust_bundle_url: https://a.test/b`),
      'agent.yaml:5: agent.insecure_bootstrap: must not be true when trust_bundle_url is set'],
    'a bundle fetched in the clear': [() => agent(`${agentBase}  trust_bundle_url: http://a.test/b`),
      'agent.yaml:5: agent.trust_bundle_url: must be an https:// URL without a user in it'],
    'a bundle fetched with a password': [() => agent(`${agentBase}  trust_bundle_url: https://u:p@a.test/b`),
      'agent.yaml:5: agent.trust_bundle_url: must be an https:// URL without a user in it'],
    'log format': [() => server(`${serverBase}  log_format: xml`), 'server.yaml:4: server.log_format: must be one of json, text'],
    'two tokens': [() => agent(`${agentBase}  insecure_bootstrap: true\n  join_token: a\n  join_token_file: b`),
      'agent.yaml:7: agent.join_token_file: is set beside join_token; keep one of them'],
    'SDS names that clash': [() => agent(`${agentBase}  insecure_bootstrap: true\n  sds: { default_svid_name: ALL }`),
      'agent.yaml:6: agent.sds: must give three different default names'],
    'a flag, by its name': [() => parseServerConfig({
      file: { name: 'server.yaml', text: serverBase }, overrides: [{ path: ['server', 'trust_domain'], value: 'A', from: '-trustDomain' }]
    }), '-trustDomain: server.trust_domain: trust domain has a character other than a-z 0-9 . - _: "A"']
  }
  for (const [rule, [parse, message]] of Object.entries(refused)) t.throws(parse, { code: 'config_invalid', message }, rule)
  t.throws(() => server('server:\n  trust_domain: A\n  ca_ttl: 1'), {
    message: /data_dir: is required[^]*trust_domain: [^]*ca_ttl: /
  }, 'all problems at once, by line')
  t.throws(() => server(`${serverBase}  datastore_url: [postgres://u:hunter2@db/x]`), { message: /^(?![^]*hunter2)[^]*datastore_url: must be a string/ },
    'a value that may be secret is not repeated')
})

void t.test('flags win over the file, the file over defaults', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-config-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const file = join(folder, 'agent.yaml')
  await writeFile(file, 'agent:\n  trust_domain: example.org\n  server_address: $HOST\n  server_port: 8081\n  sokcet_path: x\n')
  t.match(await runAssay(['agent', 'validate', '-config', file, '-insecureBootstrap']), {
    code: 2, stderr: new RegExp(`${file}:5: agent.sokcet_path: unknown key; did you mean socket_path\\?[^]*code: config_invalid`)
  })
  await writeFile(file, 'agent:\n  trust_domain: example.org\n  server_address: $HOST\n  server_port: 8081\n')
  t.match(await runAssay(['agent', 'validate', '-config', file, '-insecureBootstrap']), {
    code: 0, stdout: 'Assay agent configuration file is valid.\n'
  })
  t.match(await runAssay(['agent', 'validate', '-config', file, '-trustBundle', 'b', '-joinToken', 'a', '-joinTokenFile', 'b']), {
    code: 2, stderr: /-joinTokenFile: agent.join_token_file: is set beside join_token/
  })
  const expanding = ['agent', 'validate', '-config', file, '-expandEnv', '-insecureBootstrap']
  t.match(await runAssay(expanding, { environment: {} }), {
    code: 2, stderr: /server_address: must be a string|server_address: must not be empty/
  }, 'an unset variable is empty')
  t.match(await runAssay(expanding, { environment: { HOST: 'h' } }), { code: 0 })
  const everything = [
    'agent', 'validate', '-config', file, '-trustBundleUrl', 'https://bundles.test/b', '-disableSDSAPI', '-disableWorkloadAPI=false',
    '-logFormat', 'text', '-logSourceLocation'
  ]
  t.match(await runAssay(everything), { code: 0 })
  t.match(await runAssay([...everything, '-insecureBootstrap']), {
    code: 2, stderr: /-insecureBootstrap: agent.insecure_bootstrap: must not be true/
  })
  t.match(await runAssay(['server', 'validate', '-config', join(folder, 'absent.yaml')]), {
    code: 2, stderr: /absent\.yaml: no such file[^]*code: file_unusable/
  })
  t.match(await runAssay(['server', 'validate', '-config', folder]), { code: 2, stderr: /it is a folder/ })
  t.match(await runAssay(['server', 'validate', '-trustDomain', 'example.org', '-dataDir', folder]), { code: 0 }, 'flags alone are enough')
  const logging = ['server', 'validate', '-trustDomain', 'example.org', '-dataDir', folder, '-logSourceLocation', '-logFormat']
  t.match(await runAssay([...logging, 'text']), { code: 0 })
  t.match(await runAssay([...logging, 'xml']), { code: 2, stderr: /-logFormat: server.log_format: must be one of json, text/ })
  t.equal(expandEnvironment('$A ${B}$$A $C.', { A: '1', B: '2' }), '1 2$A .')
})

void t.test('durations are Go\'s', async t => {
  const good = { '1h': 3_600_000, '1h30m': 5_400_000, '1.5s': 1_500, '200ms': 200, '0': 0, '-5s': -5_000, '.5m': 30_000, '2µs': 0.002 }
  for (const [text, ms] of Object.entries(good)) t.equal(parseDuration(text), ms, text)
  for (const text of ['', '5', '1d', '1 h', 'h', '1h-5m', '1e3s', '.s', '9999999999h', '1h ']) {
    t.equal(parseDuration(text), undefined, JSON.stringify(text))
  }
  for (const ms of [0, 1, 999, 1_000, 61_000, 5_400_000, -90_000]) t.equal(parseDuration(formatDuration(ms)), ms, formatDuration(ms))
})

void t.test('the nearest word', async t => {
  t.equal(nearestWord('ban_address', ['bind_address', 'bind_port']), 'bind_address')
  t.equal(nearestWord('ed', ['de']), 'de', 'swapped neighbours are one slip')
  t.equal(nearestWord('SPIFFEid', ['spiffeID']), 'spiffeID', 'case is ignored')
  t.equal(nearestWord('comp', ['count', 'completion']), 'completion', 'a beginning')
  t.equal(nearestWord('abc', ['xyz']), undefined)
})

import t from 'tap'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expandEnvironment } from '../../src/runtime/config-file.ts'
import { formatDuration, parseDuration } from '../../src/runtime/duration.ts'
import { nearestWord } from '../../src/runtime/nearest-word.ts'
import { parseServerConfig } from '../../src/server/server-config.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { agent, agentBase, server, serverBase } from '../fakes/configs.ts'

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

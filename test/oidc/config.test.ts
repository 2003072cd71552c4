import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { readOidcConfig } from '../../src/cli/oidc/oidc-config-flags.ts'
import { oidcValidate } from '../../src/cli/oidc/oidc-validate.ts'
import { parseFlags } from '../../src/cli/parse-flags.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { createTestTerminal } from '../fakes/terminal.ts'

const folder = mkdtempSync(join(tmpdir(), 'assay-oidc-config-'))
t.teardown(() => rmSync(folder, { recursive: true }))

function write (text: string, name = 'provider.conf'): string {
  const file = join(folder, name)
  writeFileSync(file, text)
  return file
}

const server = 'server_api { address = "unix:///run/api.sock" }'
const tls = 'serving_cert_file { cert_file_path = "/c" key_file_path = "/k" }'
const whole = `domains = ["oidc.example.org"]\n${server}\n${tls}\n`

async function read (words: readonly string[], environment: Record<string, string> = {}) {
  const { values } = parseFlags(oidcValidate, words)
  return readOidcConfig(values as Parameters<typeof readOidcConfig>[0], createTestTerminal({ environment }))
}

void t.test('SPIRE\'s file, as it is', async t => {
  const config = await read(['-config', write(`
    log_level = "debug"
    domains = ["mypublicdomain.test", "other.test"]
    serving_cert_file {
        cert_file_path = "/some/path/cert.pem"
        key_file_path = "/some/path/key.pem"
    }
    workload_api {
        socket_path = "/tmp/spire-agent/public/api.sock"
        trust_domain = "domain.test"
    }
    health_checks { bind_port = "8009" }
  `)])
  t.match(config, {
    domains: [{ name: 'mypublicdomain.test', port: undefined }, { name: 'other.test' }],
    listen: {
      kind: 'tls', host: undefined, port: 443, certificate: {
        kind: 'files', everyMs: 60_000, files: { certificatePath: '/some/path/cert.pem', keyPath: '/some/path/key.pem' }
      }
    },
    source: { kind: 'agent', socketPath: '/tmp/spire-agent/public/api.sock', trustDomain: 'domain.test', pollMs: 10_000 },
    healthChecks: { host: 'localhost', port: 8009, readyPath: '/ready', livePath: '/live' },
    pathPrefix: '', setKeyUse: false, allowInsecureScheme: false, logLevel: 'debug', staleMaxMs: 3_600_000, cacheMaxSeconds: 300
  })
  t.match(await read(['-config', write(`${whole}server_path_prefix = "/a/b/"\njwt_issuer = "https://i.test"`)]), {
    source: { kind: 'server', socketPath: '/run/api.sock' }, pathPrefix: '/a/b', jwtIssuer: 'https://i.test'
  })
})

void t.test('flags, YAML, JSON and the environment', async t => {
  const flags = await read([
    '-domain', 'a.test', '-domain', 'b.test:8443', '-insecureAddr', '127.0.0.1:8080', '-serverAddress', 'unix:///s', '-logLevel', 'WARN'
  ])
  t.match(flags, {
    domains: [{ name: 'a.test' }, { name: 'b.test', port: 8443 }], listen: { kind: 'insecure', host: '127.0.0.1', port: 8080 }
  })
  const json = '{"domains": ["a.test"], "listen_socket_path": "/l", "server_api": {"address": "unix:///s"}}'
  t.match(await read(['-config', write(json)]), { listen: { kind: 'unix', path: '/l' } }, 'JSON under SPIRE\'s name')
  const yaml = write('domains: [a.test]\nlisten_socket_path: /l\nserver_api: { address: "unix:///s" }\n', 'provider.yaml')
  t.match(await read(['-config', yaml, '-domain', 'c.test']), { domains: [{ name: 'c.test' }] }, 'a flag wins over the file')
  const variables = write(whole.replace('oidc.example.org', '$NAME'))
  t.match(await read(['-config', variables, '-expandEnv'], { NAME: 'env.test' }), { domains: [{ name: 'env.test' }] })
  await t.rejects(read(['-config', variables], { NAME: 'env.test' }), { code: 'config_invalid' }, 'only if asked')
})

const acme = `domains = ["oidc.example.org", "b.test:8443", "b.test"]\n${server}\nacme { email = "a@b" tos_accepted = true }`

void t.test('SPIRE\'s acme', async t => {
  const { listen } = await read(['-config', write(acme)])
  t.same(listen, {
    kind: 'tls', host: undefined, port: 443, certificate: {
      kind: 'acme', acme: {
        directoryUrl: 'https://acme-v02.api.letsencrypt.org/directory', domainNames: ['oidc.example.org', 'b.test'], email: 'a@b',
        caPath: undefined, folder: './.acme-cache'
      }
    }
  })
  const more = 'directory_url = "https://ca.test/d" cache_dir = "/c" ca_path = "/ca.pem" addr = "127.0.0.1:8443"'
  const all = acme.replace('email', `${more} email`)
  t.match((await read(['-config', write(all)])).listen, {
    host: '127.0.0.1', port: 8443, certificate: { acme: { directoryUrl: 'https://ca.test/d', folder: '/c', caPath: '/ca.pem' } }
  })
})

void t.test('what is not understood is refused by name', async t => {
  const refused: ReadonlyArray<readonly [string, RegExp]> = [
    [`${whole}acme { email = "a@b" tos_accepted = true }`, /must have one of .* and has serving_cert_file and acme/],
    [acme.replace('true', 'false'), /acme.tos_accepted: must be true/],
    [acme.replace('email = "a@b"', ''), /acme.email: is required/],
    [acme.replace('oidc.example.org', '192.0.2.1'), /acme: needs names in domains/],
    [`${whole}experimental { listen_named_pipe_name = "x" }`, /experimental: is not supported/],
    [`${whole}file { path = "x" }`, /file: is not supported/],
    [`${whole}domain = ["x"]`, /conf:4: domain: unknown key; did you mean domains\?/],
    [`domains = ["a.test"]\n${tls}\nserver_api {\n address = "unix:///s"\n pol_interval = "1s"\n}`,
      /conf:5: server_api.pol_interval: unknown key/],
    [`domains = ["a.test"]\n${tls}\nserver_api { address = "tcp://10.0.0.1:80" }`, /server_api.address: must be a Unix socket/],
    [`domains = []\n${server}\n${tls}`, /domains: must name at least one domain/],
    [`domains = ["*.test"]\n${server}\n${tls}`, /domains.0: must be a whole DNS name/],
    [`${server}\n${tls}`, /domains: is required/],
    [`${whole}insecure_addr = ":80"`, /must have one of .*and has serving_cert_file and insecure_addr/],
    [`domains = ["a.test"]\n${server}`, /must have one of serving_cert_file, .* and has none/],
    [`domains = ["a.test"]\n${tls}`, /must have one of server_api and workload_api, and has none/],
    [`${whole}workload_api { socket_path = "/s" trust_domain = "a.test" }`, /and has server_api and workload_api/],
    [`${whole}allow_insecure_scheme = true`, /allow_insecure_scheme: is for insecure_addr and listen_socket_path alone/],
    [`${whole}jwt_issuer = "http://a.test"`, /jwt_issuer: must begin with https:/],
    [`${whole}jwt_issuer = "https://a.test?x"`, /jwt_issuer: must be a URL/],
    [`${whole}server_path_prefix = "/a/../b"`, /server_path_prefix: must be a path/],
    [`${whole}limits { max_connections = 0 }`, /limits.max_connections: must be at least 1/],
    [`${whole}telemetry { EnableHostnameLabel = false }`, /telemetry.EnableHostnameLabel: is not offered: all names here are our own/],
    [`${whole}telemetry { Prometheus { port = 1 tls { use_spire_svid = true } } }`, /telemetry.Prometheus.tls: is not offered/],
    [`${whole}telemetry { Statsd = [{ address = "a:1" }] }`, /telemetry.Statsd: unknown key/],
    [`${whole}cache_max_age = "soon"`, /cache_max_age: must be a duration/],
    [`${whole}domains = ["b"]`, /conf:4: the same key twice/]
  ]
  for (const [text, message] of refused) await t.rejects(read(['-config', write(text)]), { code: 'config_invalid', message }, text)
})

void t.test('assay oidc validate', async t => {
  t.same(await runAssay(['oidc', 'validate', '-config', write(whole)]), {
    code: 0, stdout: 'Assay OIDC provider configuration is valid.\n', stderr: ''
  })
  t.match(await runAssay(['oidc', 'validate', '-config', write(`${whole}acme {}`)]), { code: 2, stderr: /acme.email: is required/ })
  t.match(await runAssay(['oidc', 'serve', '-config', join(folder, 'absent.conf')]), { code: 2, stderr: /no such file/ })
  t.match(await runAssay(['oidc', 'serve', '--help']), { code: 0, stdout: /assay oidc serve -domain/ })
})

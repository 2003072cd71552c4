import t from 'tap'
import { parseServerConfig, serverConfigWarnings } from '../../src/server/server-config.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { startTestServer } from '../fakes/server.ts'
import { ask, type AskOptions, type Reply } from '../oidc/ask.ts'
import { CertificateFolder, WebAuthority } from '../oidc/web-certificate.ts'

const parse = (keys: string, more = '') => parseServerConfig({
  file: { name: 's', text: `server:\n  trust_domain: example.org\n  data_dir: /d\n  oidc_discovery_provider: ${keys}\n${more}` }
})

/** Whoever asks as often as a test that waits is told to wait at times (429), or is not let in: it asks again. */
async function answered (path: string, asked: AskOptions): Promise<Reply> {
  let reply: Reply | undefined
  await eventually(`an answer to ${path}`, async () => {
    reply = await ask(path, asked).catch(() => undefined)
    return reply !== undefined && reply.status !== 429
  })
  return reply as Reply
}

void t.test('a server publishes its own JWT keys, each before it is used', async t => {
  const port = await freePort()
  const { oidc } = parse(`{ domains: [127.0.0.1], insecure_addr: "127.0.0.1:${port}", allow_insecure_scheme: true }`)
  await using server = await startTestServer({ config: { oidc } })
  const keys = async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/keys`).catch(() => undefined)
    return answer?.status === 200 ? (await answer.json() as { keys: { kid: string }[] }).keys.map(({ kid }) => kid) : []
  }
  await eventually('a key to be published', async () => (await keys()).length === 1)
  const { preparedAuthority } = await server.admin.client(localAuthorityService).prepareJWTAuthority({})
  let published: readonly string[] = []
  await eventually('the next key to be published', async () => {
    published = await keys()
    return published.includes(preparedAuthority?.authorityId ?? '')
  })
  t.equal(published.length, 2)
  let document: Response | undefined
  await eventually('the document', async () => {
    document = await fetch(`http://127.0.0.1:${port}/.well-known/openid-configuration`)
    return document.status === 200
  })
  t.match(await document?.json(), { jwks_uri: `http://127.0.0.1:${port}/keys` })
})

void t.test('over https, by certificate files; its metrics are told from the server\'s own', async t => {
  const web = new WebAuthority()
  using files = new CertificateFolder(web.issue(['oidc.example.org', 'keys.example.com']))
  const [port, metricsPort] = [await freePort(), await freePort()]
  const { oidc } = parse(`{ domains: [oidc.example.org, keys.example.com], serving_cert_file: { addr: "127.0.0.1:${port}",
    cert_file_path: ${files.paths.certificatePath}, key_file_path: ${files.paths.keyPath} } }`)
  await using server = await startTestServer({ config: { oidc, prometheus: { host: '127.0.0.1', port: metricsPort } } })
  const reach = { port, ca: web.pem }
  await eventually('a key to be published', async () => (await ask('/keys', reach).catch(() => undefined))?.status === 200)
  for (const host of ['oidc.example.org', 'keys.example.com']) {
    const { text } = await answered('/.well-known/openid-configuration', { ...reach, host })
    t.match(JSON.parse(text), { issuer: `https://${host}`, jwks_uri: `https://${host}/keys` }, 'each domain has its own document')
  }
  t.equal((await answered('/keys', { ...reach, host: 'evil.test' })).status, 400)
  t.equal((await answered('/metrics', reach)).status, 404)
  const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()
  t.match(text, /^assay_server_oidc_requests_total\{document="configuration",status="200"\} 2$/m)
  t.match(text, /^assay_server_oidc_keys 1$/m)
  t.notMatch(text, /^assay_server_(?:keys|requests_total|connections)\b/m)
  t.ok(server.ready.port > 0)
})

void t.test('its configuration is that of the provider that runs alone, without what the server has itself', async t => {
  const files = 'serving_cert_file: { cert_file_path: /c, key_file_path: /k }'
  t.match(parse(`{ domains: [a.test], ${files} }`).oidc, { listen: { kind: 'tls', port: 443 }, pollMs: 1_000 })
  const warned = (keys: string, more: string) => serverConfigWarnings(parse(`{ domains: [a.test], ${files}${keys} }`, more))
  t.match(warned('', ''), [/jwt_issuer is not set/])
  t.match(warned('', '  disable_jwt_svids: true\n'), [/there are no keys to publish/])
  const named = '  jwt_issuer: https://a.test\n'
  t.same(warned('', named), [])
  t.match(warned(', server_path_prefix: /oidc', named), [/name the issuer https:\/\/a\.test, the document https:\/\/a\.test\/oidc: /])
  t.same(warned(', server_path_prefix: /oidc, jwt_issuer: "https://a.test"', named), [])
  t.match(warned('', '  jwt_issuer: https://b.test\n'), [/the document https:\/\/a\.test: OpenID Connect consumers refuse them/])
  for (const [keys, rule] of [
    ['{ domains: [a.test] }', /must have one of serving_cert_file, acme, insecure_addr and listen_socket_path/],
    ['{ domains: [a.test], acme: { email: a@b, tos_accepted: true } }', /acme\.cache_dir: is required/],
    [`{ domains: [a.test], ${files}, server_api: { address: "unix:///x" } }`, /server_api: unknown key/],
    [`{ ${files} }`, /domains: /]
  ] as const) t.throws(() => parse(keys), { code: 'config_invalid', message: rule }, keys)
})

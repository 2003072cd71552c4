import t from 'tap'
import { parseServerConfig, serverConfigWarnings } from '../../src/server/server-config.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { startTestServer } from '../fakes/server.ts'

const parse = (keys: string) => parseServerConfig({
  file: { name: 's', text: `server:\n  trust_domain: example.org\n  data_dir: /d\n  oidc_discovery_provider: ${keys}\n` }
})

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
  await eventually('the next key to be published', async () => (await keys()).includes(preparedAuthority?.authorityId ?? ''))
  t.equal((await keys()).length, 2)
  const document = await (await fetch(`http://127.0.0.1:${port}/.well-known/openid-configuration`)).json() as object
  t.match(document, { jwks_uri: `http://127.0.0.1:${port}/keys` })
})

void t.test('its configuration is that of the provider that runs alone, without what the server has itself', async t => {
  const files = 'serving_cert_file: { cert_file_path: /c, key_file_path: /k }'
  t.match(parse(`{ domains: [a.test], ${files} }`).oidc, { listen: { kind: 'tls', port: 443 }, pollMs: 1_000 })
  t.match(serverConfigWarnings(parse(`{ domains: [a.test], ${files} }`)), [/jwt_issuer is not set/])
  for (const [keys, rule] of [
    ['{ domains: [a.test] }', /must have one of serving_cert_file, acme, insecure_addr and listen_socket_path/],
    ['{ domains: [a.test], acme: { email: a@b, tos_accepted: true } }', /acme\.cache_dir: is required/],
    [`{ domains: [a.test], ${files}, server_api: { address: "unix:///x" } }`, /server_api: unknown key/],
    [`{ ${files} }`, /domains: /]
  ] as const) t.throws(() => parse(keys), { code: 'config_invalid', message: rule }, keys)
})

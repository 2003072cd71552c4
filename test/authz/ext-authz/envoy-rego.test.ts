import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { serveAuthz } from '../../../src/authz/standalone/serve-authz.ts'
import { tlsOfFiles } from '../../../src/cli/authz/tls-files.ts'
import { systemClock } from '../../../src/runtime/clock.ts'
import { parseCallerPattern } from '../../../src/spiffe/caller-pattern.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { Envoy, noEnvoy, localAddress, until } from '../../fakes/envoy.ts'
import { ask, mtlsListener, openPki } from './envoy-mtls.ts'

const skip = noEnvoy()
const types = 'type.googleapis.com/envoy.extensions'
const id = (path: string) => `spiffe://example.org/${path}`
const policies = `
apiVersion: assay/v1
kind: Settings
trustDomain: example.org
defaultAction: deny
---
apiVersion: assay/v1
kind: Policy
name: shop
rules:
  - { name: all, action: allow }
  - { name: never, action: deny, to: [{ paths: [/items/never] }] }
  - { name: rego, action: custom, provider: rego/envoy/authz/decision }
`

/** What the workload sees and what Envoy was told, in headers of its answer. */
const told = {
  'x-seen-caller': '%REQ(X-CALLER)%', 'x-seen-secret': '%REQ(X-SECRET)%',
  'x-told-team': '%DYNAMIC_METADATA(envoy.filters.http.ext_authz:team)%',
  'x-told-page': '%DYNAMIC_METADATA(envoy.filters.http.ext_authz:page)%',
  'x-told-rule': '%DYNAMIC_METADATA(envoy.filters.http.ext_authz:rule)%'
}

t.test('a policy of the shape that OPA documents, asked by a real Envoy over mutual TLS', { skip, timeout: 120_000 }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'authz-rego-'))
  const at = (name: string) => join(folder, name)
  const pki = await openPki()
  const { cert, key } = await pki.identityOf(id('authz'))
  const files = { policies, 'svid.pem': cert, 'key.pem': key, 'bundle.pem': pki.roots }
  for (const [name, text] of Object.entries(files)) writeFileSync(at(name), text)
  const stop = new AbortController()
  const { log } = capturedLog()
  const where = new Map<string, string>()
  const serving = serveAuthz({
    policies: [at('policies')], dataApi: [], dryRun: false,
    extAuthz: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }], extAuthzHttp: [{ kind: 'unix', path: at('http.sock') }],
    tls: tlsOfFiles({ svid: at('svid.pem'), key: at('key.pem'), bundle: at('bundle.pem') }, [parseCallerPattern(id('envoy/*'))]),
    rego: { sources: { documented: join(import.meta.dirname, '../rego/documented/bundle.tar.gz') }, entrypoints: [] }
  }, { log, clock: systemClock, onReady: (listener, address) => where.set(listener, address) }, stop.signal)
  t.teardown(async () => {
    stop.abort()
    await serving.catch(() => {})
    rmSync(folder, { recursive: true })
  })
  await Promise.race([until('both listeners', () => where.size === 2), serving])
  const grpc = {
    name: 'ext_authz', typed_config: {
      '@type': `${types}.filters.http.ext_authz.v3.ExtAuthz`, transport_api_version: 'V3',
      grpc_service: { envoy_grpc: { cluster_name: 'authz' }, timeout: '30s' }
    }
  }
  const patterns = { patterns: [{ prefix: 'x-' }, { exact: 'www-authenticate' }] }
  const http = {
    name: 'ext_authz', typed_config: {
      '@type': `${types}.filters.http.ext_authz.v3.ExtAuthz`, transport_api_version: 'V3',
      http_service: {
        server_uri: { uri: 'http://authz', cluster: 'authz-http', timeout: '30s' },
        authorization_request: { headers_to_add: [
          { key: 'x-assay-source', value: '%DOWNSTREAM_PEER_URI_SAN%' },
          { key: 'x-assay-destination', value: '%DOWNSTREAM_LOCAL_URI_SAN%' },
          { key: 'x-assay-source-address', value: '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%' },
          { key: 'x-assay-destination-port', value: '%DOWNSTREAM_LOCAL_PORT%' }
        ] },
        authorization_response: {
          allowed_upstream_headers: patterns, allowed_client_headers: patterns, allowed_client_headers_on_success: patterns
        }
      }
    }
  }
  const cluster = (name: string, address: object, more: object) => ({
    name, type: 'STATIC', load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] }, ...more
  })
  const client = await pki.identityOf(id('envoy/1'))
  const overTls = {
    typed_extension_protocol_options: { 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': `${types}.upstreams.http.v3.HttpProtocolOptions`, explicit_http_config: { http2_protocol_options: {} }
    } },
    transport_socket: { name: 'tls', typed_config: {
      '@type': `${types}.transport_sockets.tls.v3.UpstreamTlsContext`,
      common_tls_context: {
        alpn_protocols: ['h2'],
        tls_certificates: [{ certificate_chain: { inline_string: client.cert }, private_key: { inline_string: client.key } }],
        validation_context: {
          trusted_ca: { inline_string: pki.roots }, match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: id('authz') } }]
        }
      }
    } }
  }
  const listener = (name: string, filter: object) => mtlsListener(pki, name, id('shop'), [filter], false, told)
  await using envoy = await Envoy.start({ static_resources: {
    listeners: [await listener('grpc', grpc), await listener('http', http)],
    clusters: [
      cluster('authz', localAddress(Number(new URL(where.get('ext-authz') ?? '').port)), overTls),
      cluster('authz-http', { pipe: { path: at('http.sock') } }, {})
    ]
  } })
  await until('Envoy is ready', async () => await envoy.isReady() && await envoy.listenerPort('http') !== undefined)

  for (const name of ['grpc', 'http']) {
    await t.test(`over ${name}`, async t => {
      const get = (caller: string | undefined, path: string, headers = {}) => ask(envoy, pki, name, caller, 'GET', path, headers)
      const allowed = await get(id('web'), '/items/7?page=3', { 'x-caller': 'forged', 'x-secret': 'for nobody' })
      const headers = { 'x-seen-caller': id('web'), 'x-checked': 'yes' }
      t.match(allowed, { status: 200, body: 'served', headers }, 'headers for both sides')
      t.equal(allowed.headers['x-seen-secret'] ?? '-', '-', 'and one that the workload never sees')
      const metadata = { 'x-told-team': 'shop', 'x-told-page': '3', 'x-told-rule': 'shop/all' }
      if (name === 'grpc') t.match(allowed.headers, metadata, 'metadata')
      t.match(await get(id('web'), '/hidden/x%20y'), {
        status: 404, body: `GET: no hidden/x y for ${id('web')}`, headers: { 'x-reason': 'not yours' }
      }, 'a refusal in the policy\'s own words')
      t.match(await get(undefined, '/items/7'), { status: 401, body: 'who are you?', headers: { 'www-authenticate': 'Mutual' } })
      t.match(await get(id('other'), '/items/7'), { status: 403 }, 'of another team')
      t.equal((await ask(envoy, pki, name, id('web'), 'POST', '/items/7')).status, 403)
      t.match(await get(id('web'), '/items/never'), { status: 403, body: 'denied by policy\n' }, 'a rule that denies asks nobody')
    })
  }
})

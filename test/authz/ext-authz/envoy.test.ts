import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { serveAuthz } from '../../../src/authz/standalone/serve-authz.ts'
import { systemClock } from '../../../src/runtime/clock.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { Envoy, noEnvoy, until } from '../../fakes/envoy.ts'
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
workloads: { ids: ['spiffe://example.org/shop'] }
rules:
  - name: web-reads
    action: allow
    from: [{ ids: ['spiffe://example.org/web'] }]
    to: [{ methods: [GET], paths: ['/items/{*}', '/public/*'] }]
  - name: no-internals
    action: deny
    to: [{ paths: ['/public/internal*'] }]
`

t.test('a real Envoy asks for each request, and the peer\'s certificate is who calls', { skip }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'authz-'))
  const file = join(folder, 'policies.yaml')
  const socket = join(folder, 'ext-authz.sock')
  const httpSocket = join(folder, 'http.sock')
  const write = (text: string) => {
    writeFileSync(`${file}.new`, text)
    renameSync(`${file}.new`, file)
  }
  write(policies)
  const stop = new AbortController()
  const { log, lines } = capturedLog()
  const ready = new Set<string>()
  const serving = serveAuthz({
    policies: [file],
    extAuthz: [{ kind: 'unix', path: socket }],
    extAuthzHttp: [{ kind: 'unix', path: httpSocket }],
    dataApi: [],
    dryRun: false
  }, { log, clock: systemClock, onReady: listener => ready.add(listener) }, stop.signal)
  t.teardown(async () => {
    stop.abort()
    await serving.catch(() => {})
    rmSync(folder, { recursive: true })
  })
  await until('both listeners', () => ready.size === 2)
  const pki = await openPki()
  const grpc = {
    name: 'ext_authz', typed_config: {
      '@type': `${types}.filters.http.ext_authz.v3.ExtAuthz`, transport_api_version: 'V3', include_tls_session: true,
      grpc_service: { envoy_grpc: { cluster_name: 'authz' }, timeout: '30s' }
    }
  }
  const http = {
    name: 'ext_authz', typed_config: {
      '@type': `${types}.filters.http.ext_authz.v3.ExtAuthz`, transport_api_version: 'V3',
      http_service: {
        server_uri: { uri: 'http://authz', cluster: 'authz-http', timeout: '30s' },
        authorization_request: { headers_to_add: [
          { key: 'x-assay-source', value: '%DOWNSTREAM_PEER_URI_SAN%' }, { key: 'x-assay-destination', value: '%DOWNSTREAM_LOCAL_URI_SAN%' }
        ] }
      }
    }
  }
  const cluster = (name: string, path: string, h2: boolean) => ({
    name,
    type: 'STATIC',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path } } } }] }] },
    ...h2 ? { typed_extension_protocol_options: { 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': `${types}.upstreams.http.v3.HttpProtocolOptions`, explicit_http_config: { http2_protocol_options: {} }
    } } } : {}
  })
  await using envoy = await Envoy.start({ static_resources: {
    listeners: [
      await mtlsListener(pki, 'grpc', id('shop'), [grpc]), await mtlsListener(pki, 'http', id('shop'), [http]),
      await mtlsListener(pki, 'optional', id('shop'), [grpc], false)
    ],
    clusters: [cluster('authz', socket, true), cluster('authz-http', httpSocket, false)]
  } })
  await until('Envoy is ready', async () => await envoy.isReady() && await envoy.listenerPort('optional') !== undefined)

  for (const listener of ['grpc', 'http']) {
    await t.test(`over ${listener}`, async t => {
      const status = async (caller: string | undefined, method: string, path: string, headers = {}) =>
        (await ask(envoy, pki, listener, caller, method, path, headers)).status
      t.equal(await status(id('web'), 'GET', '/items/7'), 200)
      t.equal(await status(id('web'), 'POST', '/items/7'), 403, 'another method')
      t.equal(await status(id('web'), 'GET', '/items/7/owner'), 403, 'a template is one segment')
      t.equal(await status(id('other'), 'GET', '/items/7'), 403, 'another caller')
      t.equal(await status(id('web'), 'GET', '/public/internal'), 403, 'deny comes before allow')
      t.equal(await status(id('other'), 'GET', '/items/7', {
        'x-forwarded-client-cert': `URI=${id('web')}`, 'x-assay-source': id('web'), 'x-spiffe-id': id('web')
      }), 403, 'headers of the caller\'s say nothing')
      const tricks = ['/public/%69nternal', '/public//internal', '/public/x/../internal', '/public/./internal', '/public/%2e/internal',
        '/public/;/internal', '/public%2finternal', '/public\\internal', '/public/internal;x=1', '/public/internal/../internal?x=/items/7']
      for (const path of tricks) t.equal(await status(id('web'), 'GET', path), 403, path)
    })
  }
  await t.test('nobody without a certificate', async t => {
    const forged = { 'x-forwarded-client-cert': `URI=${id('web')}` }
    t.equal((await ask(envoy, pki, 'optional', undefined, 'GET', '/items/7', forged)).status, 403)
    t.equal((await ask(envoy, pki, 'optional', id('web'), 'GET', '/items/7')).status, 200)
  })
  await t.test('new policies hold at once, broken ones never', async t => {
    write(policies.replace('spiffe://example.org/web', 'spiffe://example.org/other'))
    await until('the change', async () => (await ask(envoy, pki, 'grpc', id('other'), 'GET', '/items/7')).status === 200)
    t.equal((await ask(envoy, pki, 'grpc', id('web'), 'GET', '/items/7')).status, 403)
    write(`${policies}\n---\nkind: Policy\n`)
    await until('the refusal', () => lines.some(({ msg }) => msg === 'policies refused: the last good ones go on'))
    t.equal((await ask(envoy, pki, 'grpc', id('other'), 'GET', '/items/7')).status, 200, 'the last good ones go on')
  })
  await t.test('when nobody answers, nobody is let in', async t => {
    stop.abort()
    await serving.catch(() => {})
    t.equal((await ask(envoy, pki, 'grpc', id('other'), 'GET', '/items/7')).status, 403)
    t.equal((await ask(envoy, pki, 'http', id('other'), 'GET', '/items/7')).status, 403)
  })
})

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
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
const rego = (name: string) => `{ name: ${name}, action: custom, provider: rego/hostile/${name}, to: [{ paths: [/rego/${name}] }] }`
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
  - { name: web, action: allow, from: [{ ids: ['spiffe://example.org/web'] }], to: [{ paths: ['/public/*', '/rego/*'], hosts: [shop.test] }] }
  - { name: no-internals, action: deny, to: [{ paths: ['/public/internal*'] }] }
  - ${['loop', 'memory', 'allow'].map(rego).join('\n  - ')}
`

t.test('hostile requests through a real Envoy: refused, and the authorizer goes on', { skip, timeout: 180_000 }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'authz-hostile-'))
  const [file, socket] = [join(folder, 'policies.yaml'), join(folder, 'ext-authz.sock')]
  writeFileSync(file, policies)
  const stop = new AbortController()
  const { log, lines } = capturedLog()
  let ready = false
  const serving = serveAuthz({
    policies: [file], extAuthz: [{ kind: 'unix', path: socket }], extAuthzHttp: [], dataApi: [], dryRun: false,
    rego: { sources: { hostile: join(import.meta.dirname, '../rego/fixture/bundle.tar.gz') }, entrypoints: [] }
  }, { log, clock: systemClock, onReady: () => { ready = true } }, stop.signal)
  t.teardown(async () => {
    stop.abort()
    await serving.catch(() => {})
    rmSync(folder, { recursive: true })
  })
  await Promise.race([until('the listener', () => ready), serving])
  const pki = await openPki()
  const filter = (timeout: string) => ({
    name: 'ext_authz', typed_config: {
      '@type': `${types}.filters.http.ext_authz.v3.ExtAuthz`, transport_api_version: 'V3',
      grpc_service: { envoy_grpc: { cluster_name: 'authz' }, timeout }
    }
  })
  const endpoint = { address: { pipe: { path: socket } } }
  await using envoy = await Envoy.start({ static_resources: {
    listeners: [
      await mtlsListener(pki, 'patient', id('shop'), [filter('30s')], false),
      await mtlsListener(pki, 'hasty', id('shop'), [filter('0.1s')], false)
    ],
    clusters: [{
      name: 'authz', type: 'STATIC', load_assignment: { cluster_name: 'authz', endpoints: [{ lb_endpoints: [{ endpoint }] }] },
      typed_extension_protocol_options: { 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': `${types}.upstreams.http.v3.HttpProtocolOptions`, explicit_http_config: { http2_protocol_options: {} }
      } }
    }]
  } })
  await until('Envoy is ready', async () => await envoy.isReady() && await envoy.listenerPort('hasty') !== undefined)
  const status = async (path: string, headers: Record<string, string> = {}, caller: string | undefined = id('web'), listener = 'patient') =>
    (await ask(envoy, pki, listener, caller, 'GET', path, { host: 'shop.test', ...headers })).status
  const nobody = async (path: string, headers: Record<string, string>) =>
    (await ask(envoy, pki, 'patient', undefined, 'GET', path, { host: 'shop.test', ...headers })).status

  await t.test('paths and hosts by case and final dots', async t => {
    t.equal(await status('/public/x'), 200)
    for (const host of ['SHOP.test', 'shop.test.', 'Shop.Test.:443']) {
      t.equal(await status('/public/x', { host }), 200, `${host} is the same host`)
    }
    for (const host of ['shop.test..', 'shop.test.evil', 'xshop.test', '.shop.test', 'shop.test@evil', 'evil#shop.test', '']) {
      t.not(await status('/public/x', { host }), 200, `${host} is another host`)
    }
    for (const path of ['/PUBLIC/x', '/Public/x', '/public', '/public./x', '/public/..', '/public/../x', '/public%2e/x',
      '/public/internal.', '/public/internal%2e', '/public/internal/', '/public/internal%20', '/public/internal::$DATA', '/public/x%00']) {
      t.not(await status(path), 200, path)
    }
  })

  await t.test('whoever says that he is somebody', async t => {
    const path = '/public/x'
    const spoofed = {
      'x-forwarded-client-cert': `By=${id('shop')};URI=${id('web')}`, 'x-assay-source': id('web'), 'assay-source': id('web'),
      'x-spiffe-id': id('web'), 'x-envoy-peer-metadata': id('web'), 'x-envoy-original-path': path, 'x-original-url': path,
      'x-rewrite-url': path, 'x-envoy-internal': 'true', 'x-forwarded-for': '127.0.0.1', 'forwarded': 'for=127.0.0.1',
      'authorization': id('web')
    }
    for (const [name, value] of Object.entries(spoofed)) {
      t.equal(await nobody('/public/x', { [name]: value }), 403, `${name}, without a certificate`)
      t.equal(await status('/public/x', { [name]: value }, id('other')), 403, `${name}, with another's`)
      t.equal(await status('/public/internal', { [name]: value }), 403, `${name}, for another path`)
    }
  })

  await t.test('headers beyond all measure', async t => {
    for (const size of [20_000, 50_000, 70_000, 200_000]) {
      t.not(await status('/public/internal', { big: 'x'.repeat(size) }).catch(() => 'cut'), 200, `${size} bytes spare nobody`)
    }
    const many = Object.fromEntries(Array.from({ length: 90 }, (_, i) => [`x-${i}`, 'y'.repeat(400)]))
    t.equal(await status('/public/x', many), 200, 'ninety of them')
    t.equal(await status('/public/internal', many), 403)
    t.equal(await status('/public/x'), 200, 'and the next request is answered')
  })

  await t.test('policies that loop or want all memory', async t => {
    const loops = Array.from({ length: 3 }, () => status('/rego/loop'))
    t.equal(await status('/public/x'), 200, 'rules answer meanwhile')
    t.strictSame(await Promise.all(loops), [403, 403, 403], 'who asks for what never ends is refused')
    t.equal(await status('/rego/memory'), 403)
    t.equal(await status('/rego/loop', {}, id('web'), 'hasty'), 403, 'Envoy waits no longer than it was told')
    t.equal(await status('/rego/allow'), 403, 'the next evaluation says no, and is one')
    t.equal(await status('/rego/else'), 200)
  })
  t.notOk(lines.some(({ msg }) => /bug/.test(String(msg))), 'none of it was unforeseen')
})

import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { request } from 'node:http'
import { get as getHttps } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import t from 'tap'
import { type AuthzConfig, serveAuthz } from '../../../src/authz/standalone/serve-authz.ts'
import { tlsOfFiles } from '../../../src/cli/authz/tls-files.ts'
import { systemClock } from '../../../src/runtime/clock.ts'
import { parseCallerPattern } from '../../../src/spiffe/caller-pattern.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { encodePem } from '../../../src/x509/pem.ts'
import { createTestAuthority, type TestAuthority, type TestSvid } from '../../fakes/authority.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { findEnvoy, until } from '../../fakes/envoy.ts'
import { forge, type Identity } from '../../fakes/forge.ts'
import { runAssay } from '../../fakes/run-assay.ts'

const folder = mkdtempSync(join(tmpdir(), 'authz-'))
t.teardown(() => rmSync(folder, { recursive: true }))
const policies = join(folder, 'policies')
const allowAll = 'apiVersion: assay/v1\nkind: Policy\nname: p\nrules: [{ name: all, action: allow }]\n'
writeFileSync(policies, allowAll)
const none = { policies: [policies], extAuthz: [], extAuthzHttp: [], dataApi: [], dryRun: false } satisfies AuthzConfig

async function serve (t: { teardown (end: () => Promise<void>): void }, config: Partial<AuthzConfig>) {
  const stop = new AbortController()
  const { log, lines } = capturedLog()
  const where: string[] = []
  let isOver = false
  const serving = serveAuthz({ ...none, ...config }, { log, clock: systemClock, onReady: (_, at) => where.push(at) }, stop.signal)
    .finally(() => { isOver = true })
  const end = async () => { stop.abort(); await serving.catch(() => {}) }
  t.teardown(end)
  // Who is refused is not waited for any more: the process would last as long.
  await Promise.race([until('the listener', () => isOver || where.length > 0), serving])
  return { where: where[0] ?? '', lines, end }
}

const pem = ({ chain }: Identity) => chain.map(der => encodePem('CERTIFICATE', der)).join('')
const keyPem = ({ privateKey }: Identity) => encodePem('PRIVATE KEY', privateKey)

async function writeIdentity (authority: TestAuthority, id: string) {
  const svid = await authority.issue(id)
  const files = { svid: join(folder, 'svid.pem'), key: join(folder, 'key.pem'), bundle: join(folder, 'bundle.pem') }
  writeFileSync(files.key, keyPem(svid))
  writeFileSync(files.bundle, encodePem('CERTIFICATE', authority.certificate.raw))
  writeFileSync(files.svid, pem(svid))
  return files
}

/** @returns gRPC's status of a check, and who answered */
async function check (port: number, client: Identity): Promise<{ grpcStatus: unknown, server: string }> {
  const shown = { cert: pem(client), key: keyPem(client) }
  const socket = connectTls({ host: '127.0.0.1', port, ...shown, ALPNProtocols: ['h2'], rejectUnauthorized: false })
  const session = connectHttp2('https://x', { createConnection: () => socket })
  try {
    return await new Promise((resolve, reject) => {
      session.on('error', reject)
      const seen: Record<string, unknown> = {}
      const call = session.request({
        ':method': 'POST', ':path': '/envoy.service.auth.v3.Authorization/Check', 'content-type': 'application/grpc', te: 'trailers'
      })
      call.on('response', head => Object.assign(seen, head)).on('trailers', trailers => Object.assign(seen, trailers))
      call.on('error', reject)
      const server = () => socket.getPeerCertificate().subjectaltname ?? ''
      call.on('close', () => resolve({ grpcStatus: seen['grpc-status'], server: server() })).resume()
      call.end(Buffer.alloc(5))
    })
  } finally {
    session.destroy()
  }
}

t.test('over TCP by mutual TLS: who may ask is said, and a new certificate is followed', async t => {
  const authority = await createTestAuthority('a.test')
  const files = await writeIdentity(authority, 'spiffe://a.test/authz')
  const tls = tlsOfFiles(files, [parseCallerPattern('spiffe://a.test/envoy/*')])
  const { where } = await serve(t, { extAuthz: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }], tls })
  const port = Number(new URL(where).port)
  const envoy = await authority.issue('spiffe://a.test/envoy/1')
  t.same(await check(port, envoy), { grpcStatus: '0', server: 'URI:spiffe://a.test/authz' })
  t.equal((await check(port, await authority.issue('spiffe://a.test/other'))).grpcStatus, '16', 'another member')
  t.equal((await check(port, await (await createTestAuthority('a.test')).issue('spiffe://a.test/envoy/1'))).grpcStatus, '16', 'another authority')
  const hostile = await createTestAuthority('partner.test', { subject: authority.certificate.subjectDer })
  const forged = { ...await forge('spiffe://a.test/envoy/1', hostile, authority.certificate), itself: await hostile.issue('/envoy/1') }
  for (const [how, identity] of Object.entries(forged)) {
    t.equal((await check(port, identity)).grpcStatus, '16', `X509-21 nor a CA of another domain that has the same name: ${how}`)
  }
  await writeIdentity(authority, 'spiffe://a.test/authz-2')
  await until('the new certificate', async () => (await check(port, envoy)).server === 'URI:spiffe://a.test/authz-2')
})

t.test('a certificate that is written anew before anybody asks for it is the one that is shown', async t => {
  const authority = await createTestAuthority('a.test')
  const tls = tlsOfFiles(await writeIdentity(authority, 'spiffe://a.test/authz'), [])
  await writeIdentity(authority, 'spiffe://a.test/authz-that-came-while-policies-were-read')
  const { where } = await serve(t, { extAuthz: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }], tls })
  const [port, envoy] = [Number(new URL(where).port), await authority.issue('spiffe://a.test/envoy/1')]
  const shown = 'URI:spiffe://a.test/authz-that-came-while-policies-were-read'
  await until('the new certificate', async () => (await check(port, envoy)).server === shown)
})

t.test('the data API over HTTP', async t => {
  const { where, end } = await serve(t, { dataApi: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }] })
  const base = where.replace('tcp:', 'http:')
  const ask = async (input: string) => {
    const response = await fetch(`${base}/v1/data/assay/authz/allow`, { method: 'POST', body: input })
    return [response.status, ((await response.json()) as { result?: unknown }).result]
  }
  t.same(await ask('{"input": {}}'), [200, true])
  t.same(await ask('{'), [400, undefined])
  t.equal((await ask('x'.repeat(5 * 1_048_576)))[0], 413, 'a limit')
  await end()
  await t.rejects(fetch(base))
})

/** @returns status, body and who answered */
function getOverTls (port: number, path: string, client: TestSvid | undefined): Promise<{ status: number, body: string, server: string }> {
  const shown = client === undefined ? {} : { cert: pem(client), key: keyPem(client) }
  return new Promise((resolve, reject) => {
    getHttps({ host: '127.0.0.1', port, path, ...shown, agent: false, rejectUnauthorized: false }, response => {
      const server = (response.socket as TLSSocket).getPeerCertificate().subjectaltname ?? ''
      let body = ''
      response.setEncoding('utf8').on('data', text => { body += text }).on('error', reject)
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body, server }))
    }).on('error', reject)
  })
}

t.test('the data API by mutual TLS: who may ask is said, a new certificate is followed', async t => {
  const authority = await createTestAuthority('a.test')
  const files = await writeIdentity(authority, 'spiffe://a.test/authz')
  const tls = tlsOfFiles(files, [parseCallerPattern('spiffe://a.test/client/*')])
  const { where, end } = await serve(t, { dataApiTls: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }], tls })
  const port = Number(new URL(where).port)
  const client = await authority.issue('spiffe://a.test/client/1')
  const path = '/v1/data/assay/authz/allow'
  t.match(await getOverTls(port, path, client), { status: 200, body: /"result":true/, server: 'URI:spiffe://a.test/authz' })
  const refused: Record<string, TestSvid | undefined> = {
    'another member': await authority.issue('spiffe://a.test/other'),
    'another authority': await (await createTestAuthority('a.test')).issue('spiffe://a.test/client/1'),
    'another trust domain': await (await createTestAuthority('b.test')).issue('spiffe://b.test/client/1'),
    'no certificate': undefined
  }
  for (const [what, svid] of Object.entries(refused)) {
    for (const target of [path, '/metrics', '/health', '/v1/assay/decisions?request=r']) {
      t.match(await getOverTls(port, target, svid), { status: 401, body: /^\{"code":"unauthorized"/ }, `${what} at ${target}`)
    }
  }
  await t.rejects(fetch(`http://127.0.0.1:${port}/health`), 'without TLS nothing is answered')

  const own = join(folder, 'client.pem')
  writeFileSync(own, pem(client))
  writeFileSync(`${own}.key`, keyPem(client))
  const why = (...words: string[]) => runAssay(['why-denied', 'r-1', '-dataApi', `https://127.0.0.1:${port}`, ...words])
  const flags = ['-svid', own, '-svidKey', `${own}.key`, '-bundle', files.bundle]
  t.match(await why(...flags), { code: 1, stderr: /no decision of the request "r-1"/ }, 'why-denied asks with an SVID of its own')
  const stranger = join(folder, 'stranger.pem')
  writeFileSync(stranger, encodePem('CERTIFICATE', (await createTestAuthority('a.test')).certificate.raw))
  t.match(await why(...flags.with(5, stranger)), { code: 1, stderr: /x509_chain_untrusted/ }, 'of somebody whom it believes')
  t.match(await why('-svid', own), { code: 2, stderr: /belong together/ })

  await writeIdentity(authority, 'spiffe://a.test/authz-2')
  await until('the new certificate', async () => (await getOverTls(port, path, client)).server === 'URI:spiffe://a.test/authz-2')
  await end()
  await t.rejects(getOverTls(port, path, client))
})

t.test('without TLS only this machine is served over TCP', async t => {
  const open = { kind: 'tcp', host: '0.0.0.0', port: 0 } as const
  for (const config of [{ dataApi: [open] }, { extAuthzHttp: [open] }]) {
    const serving = serveAuthz({ ...none, ...config }, { log: capturedLog().log, clock: systemClock }, AbortSignal.timeout(60_000))
    await t.rejects(serving, { code: 'address_unusable' })
  }
})

t.test('Istio\'s policies beside Assay\'s own', async t => {
  const path = join(folder, 'istio.yaml')
  writeFileSync(path, `apiVersion: assay/v1
kind: Settings
trustDomain: a.test
defaultAction: allow
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: web, namespace: shop }
spec: { rules: [{ from: [{ source: { namespaces: [web] } }] }] }
`)
  const { where } = await serve(t, { policies: [path], dataApi: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }] })
  const ask = async (source: string) => {
    const input = { source: { id: `spiffe://a.test/ns/${source}/sa/x` }, destination: { id: 'spiffe://a.test/ns/shop/sa/x' } }
    const body = JSON.stringify({ input })
    const answer = await fetch(`${where.replace('tcp:', 'http:')}/v1/data/assay/authz`, { method: 'POST', body })
    return (await answer.json() as { result: { allow: boolean, rule?: string } }).result
  }
  t.match(await ask('web'), { allow: true, rule: 'shop/web/0' })
  t.match(await ask('other'), { allow: false, reason: 'no-rule-allows' })
})

t.test('Rego beside rules: asked by them, and as documents; decisions are remembered, counted and written', async t => {
  const path = join(folder, 'with-rego.yaml')
  writeFileSync(path, allowAll.replace('}]', '}, { name: rego, action: custom, provider: rego/hostile/allow }]'))
  const file = join(folder, 'decisions.log')
  const bundle = join(import.meta.dirname, '../rego/fixture/bundle.tar.gz')
  const { where, end } = await serve(t, {
    policies: [path], dataApi: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }],
    rego: { sources: { fixture: bundle }, entrypoints: [] }, recording: { file, mask: [] }
  })
  const base = where.replace('tcp:', 'http:')
  const get = async (target: string) => await (await fetch(`${base}${target}`)).json() as Record<string, unknown>
  const result = async (at: string, input: object) => {
    const answer = await fetch(`${base}/v1/data/${at}`, { method: 'POST', body: JSON.stringify({ input }) })
    return (await answer.json() as { result?: unknown }).result
  }
  t.equal(await result('hostile/allow', { user: 'ann' }), true, 'a document of Rego')
  t.equal(await result('hostile/allow', { user: 'bob' }), false)
  t.equal(await result('hostile/nothing', {}), undefined)
  const http = { method: 'GET', path: '/', headers: { 'x-request-id': 'r-1', authorization: 'Bearer secret' } }
  t.match(await result('assay/authz', { http }), { allow: false, reason: 'custom', rule: 'p/rego' }, 'Rego refuses what a rule lets in')
  const remembered = await get('/v1/assay/decisions?request=r-1')
  t.match(remembered, { decisions: [{ result: { allowed: false, rule: 'p/rego' } }] })
  t.notMatch(JSON.stringify(remembered), /secret/)
  t.equal((await fetch(`${base}/v1/assay/decisions`)).status, 400)
  t.match(await (await fetch(`${base}/metrics`)).text(), /assay_authz_rule_decisions_total\{rule="p\/rego"\} 1/)
  const { code, stdout } = await runAssay(['why-denied', 'r-1', '-dataApi', base])
  t.equal(code, 0)
  t.match(stdout, /p\/rego/)
  await end()
  t.match(readFileSync(file, 'utf8'), /"rule":"p\/rego"/, 'what was not written yet is written at the end')
})

t.test('headers beyond all measure do not end it', async t => {
  const { where } = await serve(t, { extAuthzHttp: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }] })
  const port = Number(new URL(where).port)
  const status = (header: string) => new Promise(resolve => {
    request({ host: '127.0.0.1', port, headers: { 'x-test': header } }, response => { response.resume(); resolve(response.statusCode) })
      .on('error', () => resolve('cut')).end()
  })
  t.equal(await status('x'.repeat(60_000)), 200)
  t.not(await status('x'.repeat(200_000)), 200)
  t.equal(await status('x'), 200)
})

t.test('a rule that asks somebody unknown is refused when it is read', async t => {
  const path = join(folder, 'custom')
  writeFileSync(path, allowAll.replace('action: allow', 'action: custom, provider: nobody'))
  const { log } = capturedLog()
  await t.rejects(serveAuthz({ ...none, policies: [path] }, { log, clock: systemClock }, AbortSignal.timeout(60_000)), {
    code: 'policy_unsupported', message: 'rule p/all asks nobody, which is not configured here'
  })
})

t.test('a FederationScope that would keep nobody out, for want of Settings, is refused, of a candidate too', async t => {
  const path = join(folder, 'scoped')
  const scope = 'apiVersion: assay/v1\nkind: FederationScope\ntrustDomain: far.test\naccept: [spiffe://far.test/billing/*]\n'
  const settings = 'apiVersion: assay/v1\nkind: Settings\ntrustDomain: own.test\ndefaultAction: deny\n'
  writeFileSync(path, `${allowAll}---\n${scope}`)
  const refusal = { code: 'policy_unsupported', message: /FederationScope of far\.test would keep nobody out.*kind Settings/ }
  const dataApi: AuthzConfig['dataApi'] = [{ kind: 'tcp', host: '127.0.0.1', port: 0 }]
  await t.rejects(serve(t, { policies: [path], dataApi }), refusal)
  await t.rejects(serve(t, { candidate: [path], dataApi }), refusal)
  writeFileSync(path, `${allowAll}---\n${scope}---\n${settings}`)
  const { where } = await serve(t, { policies: [path], dataApi })
  const answer = await fetch(`${where.replace('tcp:', 'http:')}/v1/data/assay/authz`, {
    method: 'POST', body: JSON.stringify({ input: { source: { id: 'spiffe://far.test/other' }, destination: { id: 'spiffe://own.test/db' } } })
  })
  t.match(await answer.json(), { result: { allow: false, rule: 'federation/far.test' } })
})

t.test('Rego of a set that a server pushes is refused, with the way to give it here', async t => {
  const path = join(folder, 'pushed')
  const bundle = { apiVersion: 'assay/v1', kind: 'RegoBundle', name: 'orders', bundle: Buffer.from('x').toString('base64') }
  writeFileSync(path, `${allowAll}---\n${JSON.stringify(bundle)}\n`)
  const config: Partial<AuthzConfig> = { policies: [path], dataApi: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }] }
  await t.rejects(serve(t, config), {
    code: 'policy_unsupported', message: /RegoBundle orders is for policies on a server: here give it by -rego orders=FILE/
  })
  writeFileSync(path, allowAll)
  const { where, lines } = await serve(t, config)
  writeFileSync(path, `${allowAll}---\n${JSON.stringify(bundle)}\n`)
  await until('the refusal', () => lines.some(line => JSON.stringify(line).includes('RegoBundle orders')))
  const answer = await fetch(`${where.replace('tcp:', 'http:')}/v1/data/assay/authz/allow`, {
    method: 'POST', body: JSON.stringify({ input: { source: {}, destination: {} } })
  })
  t.match(await answer.json(), { result: true }, 'what was goes on')
})

t.test('the command line says what is missing', async t => {
  const refused: Record<string, string[]> = {
    '-policies is missing': ['-dataApi', 'tcp://127.0.0.1:1'], 'nobody could ask': ['-policies', policies],
    'are for bundles': ['-policies', policies, '-dataApi', 'tcp://127.0.0.1:1', '-opa', 'opa'],
    'belong together': ['-policies', policies, '-dataApi', 'tcp://127.0.0.1:1', '-svid', 'x'],
    'cannot read': ['-policies', join(folder, 'nothing'), '-dataApi', 'tcp://127.0.0.1:1']
  }
  for (const [what, flags] of Object.entries(refused)) {
    const { code, stderr } = await runAssay(['authz', 'serve', ...flags])
    t.not(code, 0, what)
    t.match(stderr, what)
  }
})

const orders = (path: string, more = '') => `apiVersion: assay/v1
kind: Policy
name: p
rules:
- { name: read, action: allow, from: [{ ids: [spiffe://a.test/web] }], to: [{ ids: [spiffe://a.test/orders], paths: [${path}] }] }
${more}`
const dataApi = [{ kind: 'tcp', host: '127.0.0.1', port: 0 }] as const

t.test('each workload\'s rules are written as filters of Envoy, and follow the policies', async t => {
  const out = join(folder, 'rbac')
  const file = join(folder, 'rbac.yaml')
  const timed = '- { name: then, action: allow, to: [{ ids: [spiffe://a.test/timed] }], when: [{ time: { notBefore: 2020-01-01T00:00:00Z } }] }'
  writeFileSync(file, orders('/v1/*', timed))
  const { lines } = await serve(t, {
    policies: [file], dataApi, rbac: { folder: out, workloads: [parseSpiffeId('spiffe://a.test/ns/x/sa/other')] }
  })
  const read = (name: string) => JSON.parse(readFileSync(join(out, name), 'utf8')) as Record<string, any>
  t.strictSame(read('index.json')['workloads'].map(({ file }: { file: string }) => file),
    ['a.test/ns/x/sa/other.json', 'a.test/orders.json', 'a.test/timed.json'])
  t.match(read('a.test/timed.json'), { id: 'spiffe://a.test/timed', http: { external: [{ rule: 'p/then', reason: 'a time' }] } })
  const { http, network } = read('a.test/orders.json')
  t.match([http.filters.length, network.filters.length, http.external], [2, 2, []])
  const envoy = findEnvoy()
  if (envoy === undefined) t.comment('there is no Envoy here: the filters are not shown to one')
  else t.doesNotThrow(() => validate(envoy, http.filters, network.filters), 'a real Envoy takes them')

  writeFileSync(file, orders('/v2/*'))
  await until('the new filters', () => JSON.stringify(read('a.test/orders.json')).includes('/v2/'))
  await until('those of a workload that is no longer named to go', () => !existsSync(join(out, 'a.test/timed.json')))
  t.ok(existsSync(join(out, 'a.test/ns/x/sa/other.json')))
  rmSync(out, { recursive: true })
  writeFileSync(out, 'no folder')
  writeFileSync(file, orders('/v3/*'))
  await until('the failure to be told', () => lines.some(({ code }) => code === 'file_unusable'))
  rmSync(out)
  writeFileSync(file, orders('/v4/*'))
  await until('the next to be written', () => existsSync(join(out, 'index.json')))
  t.match(await runAssay(['authz', 'serve', '-policies', file, '-rbacFor', 'spiffe://a.test/x', '-dataApi', 'tcp://127.0.0.1:8181']),
    { code: 2, stderr: /-rbacFor needs -rbacOut/ })
})

/** @throws {Error} with what Envoy says */
function validate (envoy: string, http: readonly object[], network: readonly object[]): void {
  const config = join(folder, 'envoy.json')
  const typeOf = (name: string) => `type.googleapis.com/envoy.extensions.filters.${name}`
  const manager = {
    '@type': typeOf('network.http_connection_manager.v3.HttpConnectionManager'), stat_prefix: 'x', route_config: {},
    http_filters: [...http, { name: 'router', typed_config: { '@type': typeOf('http.router.v3.Router') } }]
  }
  writeFileSync(config, JSON.stringify({ static_resources: { listeners: [{
    name: 'l', address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    filter_chains: [{ filters: [...network, { name: 'http', typed_config: manager }] }]
  }] } }))
  execFileSync(envoy, ['--mode', 'validate', '-c', config, '-l', 'error'], { stdio: 'pipe' })
}

t.test('a candidate is held against what is obeyed, on live requests', async t => {
  const [obeyed, candidate] = [join(folder, 'obeyed.yaml'), join(folder, 'candidate.yaml')]
  writeFileSync(obeyed, orders('/v1/*'))
  writeFileSync(candidate, orders('/v2/*'))
  const { where } = await serve(t, { policies: [obeyed], candidate: [candidate], dataApi })
  const url = where.replace('tcp:', 'http:')
  const ask = async (path: string) => {
    const input = { source: { id: 'spiffe://a.test/web' }, destination: { id: 'spiffe://a.test/orders' }, http: { method: 'GET', path } }
    const answer = await fetch(`${url}/v1/data/assay/authz/allow`, { method: 'POST', body: JSON.stringify({ input }) })
    return (await answer.json() as { result: boolean }).result
  }
  const flips = async () => (await (await fetch(`${url}/v1/flips`)).json() as { result: Record<string, any> }).result
  t.strictSame([await ask('/v1/a'), await ask('/v1/a'), await ask('/v2/a'), await ask('/v3/a')], [true, true, false, false])
  t.match(await flips(), { compared: 4, flipped: 3, failed: 0, flips: [
    { operation: /^GET \/v1\/a/, before: 'allow', after: 'deny', count: 2 }, { operation: /^GET \/v2\/a/, before: 'deny', after: 'allow' }
  ] })
  writeFileSync(candidate, orders('/v1/*'))
  await until('another candidate to begin anew', async () => (await flips())['compared'] === 0)
  t.equal(await ask('/v1/a'), true)
  t.match(await flips(), { compared: 1, flipped: 0 })
})

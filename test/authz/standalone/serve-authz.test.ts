import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import { type AuthzConfig, serveAuthz } from '../../../src/authz/standalone/serve-authz.ts'
import { tlsOfFiles } from '../../../src/cli/authz/tls-files.ts'
import { systemClock } from '../../../src/runtime/clock.ts'
import { parseCallerPattern } from '../../../src/spiffe/caller-pattern.ts'
import { encodePem } from '../../../src/x509/pem.ts'
import { createTestAuthority, type TestAuthority, type TestSvid } from '../../fakes/authority.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { until } from '../../fakes/envoy.ts'
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
  const serving = serveAuthz({ ...none, ...config }, { log, clock: systemClock, onReady: (_, at) => where.push(at) }, stop.signal)
  const end = async () => { stop.abort(); await serving.catch(() => {}) }
  t.teardown(end)
  await Promise.race([until('the listener', () => where.length > 0), serving])
  return { where: where[0] ?? '', lines, end }
}

const pem = ({ chain }: TestSvid) => chain.map(der => encodePem('CERTIFICATE', der)).join('')
const keyPem = ({ privateKey }: TestSvid) => encodePem('PRIVATE KEY', privateKey)

async function writeIdentity (authority: TestAuthority, id: string) {
  const svid = await authority.issue(id)
  const files = { svid: join(folder, 'svid.pem'), key: join(folder, 'key.pem'), bundle: join(folder, 'bundle.pem') }
  writeFileSync(files.key, keyPem(svid))
  writeFileSync(files.bundle, encodePem('CERTIFICATE', authority.certificate.raw))
  writeFileSync(files.svid, pem(svid))
  return files
}

/** @returns gRPC's status of a check, and who answered */
async function check (port: number, client: TestSvid): Promise<{ grpcStatus: unknown, server: string }> {
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
  await writeIdentity(authority, 'spiffe://a.test/authz-2')
  await until('the new certificate', async () => (await check(port, envoy)).server === 'URI:spiffe://a.test/authz-2')
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
  await t.rejects(serveAuthz({ ...none, policies: [path] }, { log, clock: systemClock }, AbortSignal.timeout(5_000)), {
    code: 'policy_unsupported', message: 'rule p/all asks nobody, which is not configured here'
  })
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

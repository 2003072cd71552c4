import { rmSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { parseAllowedDomain } from '../../src/oidc/allowed-hosts.ts'
import { type ProviderConfig, type ProviderReady, runProvider } from '../../src/oidc/provider.ts'
import { createMetrics } from '../../src/runtime/metrics.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { ask, type AskOptions, askRaw } from './ask.ts'
import { FakeSource, makeKey } from './fake-source.ts'
import { CertificateFolder, WebAuthority } from './web-certificate.ts'

const start = new Date()
const web = new WebAuthority(start)

/** A provider in this process that a fake source feeds. */
async function serve (test: Pick<typeof t, 'teardown'>, change: Partial<ProviderConfig> = {}) {
  const files = new CertificateFolder(web.issue(['oidc.example.org']))
  const clock = new ManualClock(start)
  const source = new FakeSource()
  const { log, lines } = capturedLog()
  const metrics = createMetrics({ prefix: 'assay_oidc' })
  const stop = new AbortController()
  const { promise: ready, resolve } = Promise.withResolvers<ProviderReady>()
  const config: ProviderConfig = {
    domains: [parseAllowedDomain('oidc.example.org')], jwtIssuer: undefined, jwksUri: undefined, pathPrefix: '', allowInsecureScheme: false,
    cacheMaxSeconds: 300, setKeyUse: false, staleMaxMs: 3_600_000, pollMs: 10_000, logRequests: true,
    limits: { maxConnections: 100, maxConnectionsPerAddress: 50, requestsPerSecond: 1_000 },
    listen: { kind: 'tls', host: '127.0.0.1', port: 0, certificate: { kind: 'files', files: files.paths, everyMs: 60_000 } }, ...change
  }
  const run = runProvider(config, { source, clock, log, metrics, onReady: resolve }, stop.signal)
  const end = async () => { stop.abort(); await run }
  test.teardown(() => files[Symbol.dispose]())
  const { port, probes } = await Promise.race([ready, run.then(() => { throw new Error('it ended') })])
  test.teardown(end)
  const reach: AskOptions = port === undefined ? {} : { port, ...config.listen.kind === 'tls' ? { ca: web.pem } : {} }
  const askHere = (path: string, more: AskOptions = {}) => ask(path, { ...reach, ...more })
  return { ask: askHere, files, clock, source, lines, metrics, port: port as number, probes, end }
}

const said = (lines: readonly Readonly<Record<string, unknown>>[], msg: string | RegExp) =>
  lines.filter(line => typeof msg === 'string' ? line['msg'] === msg : msg.test(String(line['msg'])))

void t.test('two documents over https, and the log and metrics say so', async t => {
  const { ask, source, lines, metrics, clock } = await serve(t)
  t.match(await ask('/keys'), { status: 500, text: /document not available/ }, 'before the source has answered')
  source.say([makeKey('one')])
  await eventually('the key is served', async () => (await ask('/keys')).status === 200)
  const keys = await ask('/keys')
  const length = String(keys.text.length)
  t.match(keys.headers, { 'content-type': 'application/json', 'cache-control': 'public, max-age=300', 'content-length': length })
  t.notOk('transfer-encoding' in keys.headers)
  const head = await ask('/keys', { method: 'HEAD' })
  t.same([head.status, head.text, head.headers['content-length'], head.headers.etag], [200, '', length, keys.headers.etag])
  const again = await ask('/keys', { headers: { 'if-none-match': String(keys.headers.etag) } })
  t.same([again.status, again.text, again.headers['content-length']], [304, '', undefined])
  t.match(JSON.parse((await ask('/.well-known/openid-configuration')).text), { issuer: 'https://oidc.example.org' })
  t.match(await ask('/keys', { host: 'evil.test' }), { status: 400, text: /oidc_host_unknown/ })
  t.match(await ask('/keys', { headers: { 'x-forwarded-host': 'evil.test' } }), { status: 200 }, 'over TCP nobody speaks for another host')
  t.equal((await ask('/metrics')).status, 404, 'metrics are elsewhere')
  source.say([makeKey('two')])
  await eventually('the new key is served', async () => (await ask('/keys')).text.includes('"two"'))
  t.not((await ask('/keys')).headers.etag, keys.headers.etag)
  t.match(said(lines, 'published keys changed'), [{ added: ['one'] }, { added: ['two'], removed: ['one'] }])
  t.match(said(lines, 'request answered')[0], { method: 'GET', target: '/keys', status: 500, code: 'oidc_keys_unavailable' })
  await clock.advance(2_500)
  const text = await metrics.expose()
  for (const line of [
    /^assay_oidc_requests_total\{document="keys",status="304"\} 1$/m, /^assay_oidc_requests_total\{document="none",status="404"\} 1$/m,
    /^assay_oidc_source_reads_total\{outcome="taken"\} 2$/m, /^assay_oidc_keys 1$/m, /^assay_oidc_keys_age_seconds 2\.5$/m,
    /^assay_oidc_certificate_expiry_timestamp_seconds 1\d{9}$/m
  ]) t.match(text, line)
  t.notMatch(JSON.stringify(lines), /WITHOUT TLS/)
})

void t.test('bodies are not read, malformed requests end their connection', async t => {
  const { port, source, ask } = await serve(t)
  source.say([makeKey('one')])
  await eventually('the key is served', async () => (await ask('/keys')).status === 200)
  const raw = (bytes: string) => askRaw(bytes, { ca: web.pem, port })
  const line = 'Host: oidc.example.org\r\n'
  const status = async (bytes: string) => /^HTTP\/1\.1 (\d+)/.exec(await raw(bytes))?.[1]
  t.equal(await status(`GET /keys HTTP/1.1\r\n${line}Content-Length: 1000000\r\n\r\nx`), '400', 'closed though the body does not come')
  t.equal(await status(`GET /keys HTTP/1.1\r\n${line}Transfer-Encoding: chunked\r\n\r\n`), '400')
  t.equal(await status(`GET /keys HTTP/1.1\r\n${line}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n`), '400', 'nobody is told to go on')
  t.equal(await status(`POST /keys HTTP/1.1\r\n${line}Content-Length: 5\r\n\r\n`), '405')
  t.equal(await status('GET /keys HTTP/1.1\r\n\r\n'), '400', 'no host')
  t.equal(await status(`GET /keys HTTP/1.1\r\n${line}Host: evil.test\r\nConnection: close\r\n\r\n`), '400', 'two hosts')
  t.equal(await status(`GET https://evil.test/keys HTTP/1.1\r\n${line}Connection: close\r\n\r\n`), '404', 'a whole URL')
  t.equal(await status(`GET /keys HTTP/1.1\r\n${line}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`), '400', 'smuggling')
  t.equal(await status(`GET /keys HTTP/1.1\r\n${line} folded: x\r\nX: y\r\nConnection: close\r\n\r\n`), '400')
  t.match(await raw(`GET /keys HTTP/1.1\r\n${line}X: ${'x'.repeat(20_000)}\r\n\r\n`), /^(?:HTTP\/1\.1 4\d\d|$)/, 'too many headers')
  const upgraded = await raw(`GET /keys HTTP/1.1\r\n${line}Upgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n`)
  t.match(upgraded, /^HTTP\/1\.1 (?!101)/, 'no other protocol')
  t.equal((await ask('/keys')).status, 200, 'it goes on')
})

void t.test('a renewed certificate is taken over, a broken one is not', async t => {
  const { files, clock, ask, lines, source } = await serve(t)
  source.say([makeKey('one')])
  await eventually('the key is served', async () => (await ask('/keys')).status === 200)
  const [other, wrong] = [new WebAuthority(start), web.issue(['oidc.example.org'])]
  await t.rejects(ask('/keys', { ca: other.pem }), 'the other authority does not vouch for it')
  // A look at the files takes the time of a disk: who looks may not yet have gone to sleep again when the clock is moved.
  const looksUntil = (what: string, condition: () => boolean) =>
    eventually(what, async () => { await clock.advance(60_000); return condition() })
  const refusals = (count: number) => looksUntil(`${count} refusals`, () => said(lines, /cannot be used/).length === count)
  files.write({ key: wrong.key })
  await refusals(1)
  t.match(said(lines, /cannot be used/), [{ code: 'file_unusable', reason: /is not the key of the certificate/ }])
  t.equal((await ask('/keys')).status, 200, 'the one before goes on')
  await clock.advance(600_000)
  t.equal(said(lines, /cannot be used/).length, 1, 'said once')
  files.write({ cert: 'no certificate' })
  await refusals(2)
  rmSync(files.paths.certificatePath)
  await refusals(3)
  files.write(web.issue(['oidc.example.org'], 0.5))
  await refusals(4)
  t.match(said(lines, /cannot be used/).map(line => line['reason']), [/is not the key/, /has no certificate/, /cannot read/, /expired at/])
  t.equal((await ask('/keys')).status, 200)
  const taken = (count: number) =>
    looksUntil(`${count} taken over`, () => said(lines, 'new serving certificate taken over').length === count)
  files.write(other.issue(['elsewhere.test']))
  await taken(1)
  t.match(said(lines, 'the serving certificate does not name these domains'), [{ domains: ['oidc.example.org'] }])
  files.write(other.issue(['oidc.example.org']))
  await taken(2)
  t.equal((await ask('/keys', { ca: other.pem })).status, 200, 'new connections get the new one')
  await t.rejects(ask('/keys'), 'and not the one before')
})

void t.test('while the source is away the last good keys are served, for a time', async t => {
  const { clock, source, ask, lines, probes } = await serve(t)
  const health = async () => {
    try {
      await probes['oidc.keys']?.()
      return 'ok'
    } catch (error) {
      return (error as Error).message
    }
  }
  source.say(new SpiffeError('server_unreachable', 'nobody listens'))
  await clock.advance(60_000)
  t.equal(await health(), 'the source of the keys has not answered yet: nobody listens')
  source.say([makeKey('one')])
  await clock.advance(10_000)
  t.equal((await ask('/keys')).status, 200)
  t.equal(await health(), 'ok')
  source.say(new SpiffeError('server_unreachable', 'nobody listens'))
  await clock.advance(170_000)
  t.equal(await health(), 'ok', 'three minutes of patience, as SPIRE has')
  t.equal((await ask('/keys')).headers['cache-control'], 'public, max-age=10')
  await clock.advance(20_000)
  t.match(await health(), /^the keys were last confirmed 195 s ago: nobody listens$/, 'they came 4.5 s into those ten')
  t.equal((await ask('/keys')).status, 200)
  await clock.advance(3_600_000)
  const gone = await ask('/keys')
  t.match(gone, { status: 503, headers: { 'cache-control': 'no-store', 'retry-after': '10' } })
  t.equal((JSON.parse(gone.text) as { code: string }).code, 'oidc_keys_unavailable')
  t.equal((await ask('/.well-known/openid-configuration')).status, 200)
  source.say([makeKey('two')])
  await clock.advance(10_000)
  t.equal((await ask('/keys')).status, 200, 'and it comes back')
  t.equal(await health(), 'ok')
  const away = said(lines, 'the source of the keys is away: the last good ones are served on')
  t.match(away, [{ code: 'server_unreachable', reason: 'nobody listens' }, { reason: 'nobody listens' }])
  t.equal(away.length, 2, 'each absence is said once')
  t.equal(said(lines, 'the source of the keys is back').length, 1)
})

void t.test('who asks too often or holds too many connections keeps nobody else out', async t => {
  const { ask, clock, port, metrics } = await serve(t, {
    limits: { maxConnections: 100, maxConnectionsPerAddress: 3, requestsPerSecond: 2 },
    listen: { kind: 'insecure', host: '127.0.0.1', port: 0 }
  })
  const statuses = []
  for (let index = 0; index < 6; index++) statuses.push((await ask('/keys')).status)
  t.same(statuses, [500, 500, 500, 500, 429, 429])
  t.match(await ask('/keys'), { status: 429, headers: { 'retry-after': '1', connection: 'close' }, text: /rate_limited/ })
  await clock.advance(1_000)
  t.equal((await ask('/keys')).status, 500, 'a second later it may again')
  const outcomes = []
  for (let index = 0; index < 4; index++) outcomes.push(await ask('/keys').then(({ status }) => status, () => 'closed'))
  t.same(outcomes, [500, 429, 'closed', 'closed'], 'eight connections at once, two more in that second')
  t.match(await metrics.expose(), /^assay_oidc_connections_refused_total\{reason="rate"\} 2$/m)
  await clock.advance(10_000)
  const held = Array.from({ length: 5 }, () => connect({ host: '127.0.0.1', port }))
  t.teardown(() => { for (const socket of held) socket.destroy() })
  for (const socket of held) socket.on('error', () => {}).resume()
  await eventually('two are closed', () => held.filter(socket => socket.readableEnded || socket.destroyed).length === 2)
  t.match(await metrics.expose(), /^assay_oidc_connections_refused_total\{reason="address"\} 2$/m)
  for (const socket of held) socket.destroy()
  await clock.advance(10_000)
  await eventually('others get in', () => ask('/keys').then(({ status }) => status === 500, () => false))
})

void t.test('without TLS only if asked for, and said aloud', async t => {
  const insecure = await serve(t, { listen: { kind: 'insecure', host: '127.0.0.1', port: 0 }, allowInsecureScheme: true })
  t.match(said(insecure.lines, /WITHOUT TLS/), [{ level: 'warn' }])
  t.match(said(insecure.lines, /allow_insecure_scheme/), [{ level: 'warn' }])
  const host = `oidc.example.org:${insecure.port}`
  const document = JSON.parse((await insecure.ask('/.well-known/openid-configuration', { host })).text) as object
  t.match(document, { issuer: `http://${host}`, jwks_uri: `http://${host}/keys` })
  const files = new CertificateFolder(web.issue(['x']))
  t.teardown(() => files[Symbol.dispose]())
  const socketPath = join(files.path, 'oidc.sock')
  const unix = await serve(t, { listen: { kind: 'unix', path: socketPath } })
  t.match(said(unix.lines, /Unix socket/), [{ level: 'warn' }])
  const headers = { 'x-forwarded-host': 'oidc.example.org' }
  t.match(JSON.parse((await unix.ask('/.well-known/openid-configuration', { socketPath, host: 'localhost', headers })).text),
    { issuer: 'https://oidc.example.org' }, 'the proxy in front says who was asked')
  t.equal((await unix.ask('/keys', { socketPath, host: 'localhost' })).status, 400)
})

void t.test('it ends at once, also with connections that say nothing', async t => {
  const { port, end } = await serve(t)
  const idle = connect({ host: '127.0.0.1', port })
  await new Promise(resolve => idle.once('connect', resolve))
  idle.on('error', () => {}).resume()
  await end()
  t.pass('it has ended')
  const busy = await serve(t, { listen: { kind: 'insecure', host: '127.0.0.1', port: 0 } })
  await t.rejects(serve(t, { listen: { kind: 'insecure', host: '127.0.0.1', port: busy.port } }), { code: 'address_unusable' })
  const from = (files: CertificateFolder['paths']) =>
    ({ kind: 'tls', host: '127.0.0.1', port: 0, certificate: { kind: 'files', files, everyMs: 1 } }) as const
  const absent = { certificatePath: '/absent', keyPath: '/absent' }
  await t.rejects(serve(t, { listen: from(absent) }), { code: 'file_unusable' })
  using expired = new CertificateFolder(web.issue(['oidc.example.org'], 0.5))
  await t.rejects(serve(t, { listen: from(expired.paths) }), { code: 'file_unusable', message: /expired at/ })
})

import { once } from 'node:events'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer as createPlainServer } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import t from 'tap'
import { fetchTrustBundle } from '../../src/agent/fetch-trust-bundle.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { openRelay } from '../fakes/relay.ts'
import { fetchBundle } from '../fakes/agent-client.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { startTestServer } from '../fakes/server.ts'
import { oid } from '../../src/x509/oid.ts'
import { altNames, caExtensions, forge, leafExtensions, nameOf, type Forged } from '../x509/forge-certificate.ts'

const day = { notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + 3_600_000) }
const web = forge({ ...day, subject: 'a CA of the web', extensions: caExtensions() })
const authorities = [encodePem('CERTIFICATE', web.der)]
const names = (...names: Uint8Array[]) => ({ ...leafExtensions(), [oid.subjectAltName]: altNames(names) })
const host = forge({ ...day, issuer: web, subject: 'host', extensions: names(nameOf.ip([127, 0, 0, 1])) })
const otherHost = forge({ ...day, issuer: web, subject: 'host', extensions: names(nameOf.dns('other.test')) })
const signal = new AbortController().signal

/** @returns its `https://127.0.0.1:<port>` */
async function serve (test: Pick<typeof t, 'teardown'>, answer: RequestListener, { der, key }: Forged = host): Promise<string> {
  const server = createServer({ cert: encodePem('CERTIFICATE', der), key: key.export({ format: 'pem', type: 'pkcs8' }) }, answer)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  test.teardown(() => { server.closeAllConnections(); server.close() })
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function redirect (location: string) {
  return (_request: IncomingMessage, response: ServerResponse) => { response.writeHead(302, { location }).end() }
}

void t.test('a bundle is fetched over https', async t => {
  const asked: unknown[] = []
  const url = await serve(t, ({ url, method }, response) => {
    asked.push([method, url])
    if (url === '/moved') redirect('/bundle?a=b')({} as IncomingMessage, response)
    else response.end('the bundle ü')
  })
  t.equal(await fetchTrustBundle(`${url}/bundle`, signal, { authorities }), 'the bundle ü')
  t.equal(await fetchTrustBundle(`${url}/moved`, signal, { authorities }), 'the bundle ü', 'a redirect is followed')
  t.same(asked, [['GET', '/bundle'], ['GET', '/moved'], ['GET', '/bundle?a=b']])
})

void t.test('what does not vouch for itself is not trusted', async t => {
  const good = await serve(t, (_request, response) => response.end('x'))
  await t.rejects(fetchTrustBundle(good, signal), { code: 'bootstrap_untrusted' }, 'no root of the web knows this one')
  await t.rejects(fetchTrustBundle(good, signal, { authorities: [] }), { code: 'bootstrap_untrusted' })
  const misnamed = await serve(t, (_request, response) => response.end('x'), otherHost)
  await t.rejects(fetchTrustBundle(misnamed, signal, { authorities }), { code: 'bootstrap_untrusted', message: /altnames/ })
  const expired = forge({
    issuer: web, extensions: names(nameOf.ip([127, 0, 0, 1])), notBefore: new Date(Date.now() - 7_200_000), notAfter: day.notBefore
  })
  const late = await serve(t, (_request, response) => response.end('x'), expired)
  await t.rejects(fetchTrustBundle(late, signal, { authorities }), { code: 'bootstrap_untrusted' })
  const leading = await serve(t, redirect(misnamed))
  await t.rejects(fetchTrustBundle(leading, signal, { authorities }), { code: 'bootstrap_untrusted' }, 'each redirect is checked')
})

void t.test('what cannot be fetched may be tried again', async t => {
  const code = 'trust_bundle_unavailable'
  const missing = await serve(t, (_request, response) => response.writeHead(404).end())
  await t.rejects(fetchTrustBundle(`${missing}/b?key=hunter2`, signal, { authorities }), {
    code, message: `cannot fetch ${missing}/b: it answers with status 404`
  }, 'a query is not repeated: it may be secret')
  const clear = await serve(t, redirect('http://127.0.0.1:1/b'))
  await t.rejects(fetchTrustBundle(clear, signal, { authorities }), { code, message: /redirects to http:/ })
  const round = await serve(t, redirect('/again'))
  await t.rejects(fetchTrustBundle(round, signal, { authorities }), { code, message: /more than 5 times/ })
  const endless = await serve(t, (_request, response) => response.end(Buffer.alloc(1_048_577)))
  await t.rejects(fetchTrustBundle(endless, signal, { authorities }), { code, message: /longer than 1048576 bytes/ })
  const silent = await serve(t, () => undefined)
  await t.rejects(fetchTrustBundle(silent, signal, { authorities, timeoutMs: 100 }), { code })
  await t.rejects(fetchTrustBundle('https://127.0.0.1:1/b', signal, { authorities }), { code, message: /ECONNREFUSED/ })
  const stop = new AbortController()
  const stopped = new Error('stopped')
  const asked = await serve(t, () => stop.abort(stopped))
  await t.rejects(fetchTrustBundle(asked, stop.signal, { authorities }), stopped, 'a stop is no failure')
})

void t.test('an agent joins by a bundle that it fetches, once it is there', async t => {
  const usual = getCACertificates('default')
  setDefaultCACertificates([...usual, ...authorities])
  t.teardown(() => setDefaultCACertificates(usual))
  await using server = await startTestServer()
  const { x509Authorities } = await fetchBundle(server)
  const bundle = x509Authorities.map(({ asn1 }) => encodePem('CERTIFICATE', asn1)).join('')
  let fetched = 0
  const url = await serve(t, (_request, response) => {
    if (++fetched === 1) response.writeHead(503).end()
    else response.end(bundle)
  })
  const { log, lines } = capturedLog()
  await using agent = await startTestAgent(server, { log, config: { trustBundlePath: undefined, trustBundleUrl: url } })
  t.ok(agent.path)
  t.equal(fetched, 2)
  t.match(lines.filter(({ level }) => level === 'warn'), [{ err: { message: /status 503/ }, msg: 'joining failed for now; trying again' }])

  const foreign = await serve(t, (_request, response) => response.end(authorities[0]))
  await t.rejects(startTestAgent(server, { config: { trustBundlePath: undefined, trustBundleUrl: foreign } }), {
    code: 'bootstrap_untrusted'
  }, 'a bundle of somebody else does not vouch for this server')
})

void t.test('a program on this machine hands the bundle out, and is told who asks (trust_bundle_unix_socket)', async t => {
  await using server = await startTestServer()
  const { x509Authorities } = await fetchBundle(server)
  const folder = await mkdtemp(join(tmpdir(), 'assay-bundle-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const asked: URL[] = []
  const program = createPlainServer(({ url, headers }, response) => {
    asked.push(new URL(url ?? '', `http://${headers.host}`))
    if (asked.length === 1) response.writeHead(302, { location: 'http://elsewhere.test/' }).end()
    else response.end(x509Authorities.map(({ asn1 }) => encodePem('CERTIFICATE', asn1)).join(''))
  })
  const path = join(folder, 'bundle.sock')
  await once(program.listen(path), 'listening')
  t.teardown(() => { program.closeAllConnections(); program.close() })
  await using agent = await startTestAgent(server, {
    config: { trustBundlePath: undefined, trustBundleUrl: 'http://bundle.test/now?site=a', trustBundleUnixSocket: path }
  })
  t.ok(agent.path)
  const places = asked.map(({ host, pathname }) => [host, pathname])
  t.strictSame(places, [['bundle.test', '/now'], ['bundle.test', '/now']], 'it sends nobody elsewhere')
  const { 'spire-attest-start-time': startedAt, ...told } = Object.fromEntries(asked[1]?.searchParams ?? [])
  t.match(startedAt, /^\d{4}-\d\d-\d\dT[\d:]{8}Z$/)
  t.strictSame(told, {
    site: 'a', 'spire-attest-mode': 'bootstrap', 'spire-connection-attempts': '2', 'spire-server-address': '127.0.0.1',
    'spire-server-port': String(server.ready.port), 'spiffe-trust-domain': 'example.org'
  }, 'in SPIRE\'s words')
})

void t.test('at each attempt the bundle is read anew, and who hands it out knows how often (spire-surface §2.1)', async t => {
  await using server = await startTestServer()
  const { x509Authorities } = await fetchBundle(server)
  const folder = await mkdtemp(join(tmpdir(), 'assay-bundle-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await using relay = await openRelay(server.ready.port)
  const attempts: (string | null)[] = []
  const program = createPlainServer(({ url }, response) => {
    attempts.push(new URL(url ?? '', 'http://bundle.test').searchParams.get('spire-connection-attempts'))
    if (attempts.length > 1) relay.open()
    // The bundle of yesterday, before a server was there.
    response.end(attempts.length === 1 ? authorities[0] : x509Authorities.map(({ asn1 }) => encodePem('CERTIFICATE', asn1)).join(''))
  })
  const path = join(folder, 'bundle.sock')
  await once(program.listen(path), 'listening')
  t.teardown(() => { program.closeAllConnections(); program.close() })
  const serverAddresses = [`127.0.0.1:${relay.port}`]
  await using agent = await startTestAgent(server, {
    config: { serverAddresses, trustBundlePath: undefined, trustBundleUrl: 'http://bundle.test/', trustBundleUnixSocket: path }
  })
  t.ok(agent.path)
  t.strictSame(attempts.slice(0, 2), ['1', '2'])
})

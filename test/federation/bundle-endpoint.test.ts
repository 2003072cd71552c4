import { once } from 'node:events'
import { rename, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { Agent, request, type RequestOptions } from 'node:https'
import { connect as connectPlain } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls'
import t from 'tap'
import { fetchBundle } from '../../src/federation/client/fetch-bundle.ts'
import { WebRoots } from '../../src/federation/client/web-roots.ts'
import { serveBundleEndpoint, type BundleEndpointOptions } from '../../src/federation/endpoint/serve-bundle-endpoint.ts'
import { svidCertificate } from '../../src/rpc/svid-certificate.ts'
import { CertificateFiles } from '../../src/rpc/certificate-files.ts'
import type { ServingCertificate } from '../../src/rpc/serving-certificate.ts'
import { AddressAllowance } from '../../src/rpc/address-allowance.ts'
import { peerNetwork } from '../../src/rpc/peer-network.ts'
import { parseBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseBundleEndpoint } from '../../src/spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock, settle } from '../fakes/clock.ts'
import { createWebCa } from './web-ca.ts'

const never = new AbortController().signal
const webCa = await createWebCa()
const authority = await createTestAuthority('example.org')
const bundle: Bundle = { ...authority.bundle, sequenceNumber: 7n }
const published: Bundle = { ...bundle, refreshHintSeconds: 300 }
const certified = await webCa.certify()
const fixed: ServingCertificate = { current: () => certified }

async function serve (certificate = fixed, options: Partial<BundleEndpointOptions> = {}) {
  const clock = new ManualClock(new Date())
  const { log, lines } = capturedLog()
  const stop = new AbortController()
  const source: { value: Bundle | undefined } = { value: bundle }
  const listening = Promise.withResolvers<{ readonly port: number }>()
  const running = serveBundleEndpoint({ host: '127.0.0.1', port: 0, ...options }, {
    bundle: source, certificate, clock, log, onListening: listening.resolve
  }, stop.signal)
  running.catch(listening.reject)
  const { port } = await listening.promise
  const ask = (more: RequestOptions = {}) => askAt(port, more)
  return {
    port, source, clock, lines, running, stop, ask,
    async [Symbol.asyncDispose] () {
      stop.abort()
      await clock.advance(5_000)
      await running
    }
  }
}

async function askAt (port: number, options: RequestOptions) {
  const sent = request({ host: '127.0.0.1', port, path: '/', ca: webCa.root, agent: false, ...options }).end()
  const [response] = await once(sent, 'response') as [IncomingMessage]
  return { status: response.statusCode, headers: response.headers, body: await buffer(response) }
}

/** A connection that the endpoint has accepted, whoever it is. */
async function handshake (port: number, options: ConnectionOptions): Promise<TLSSocket & Disposable> {
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options })
  await once(socket, 'secureConnect')
  socket.on('error', () => undefined)
  return Object.assign(socket, { [Symbol.dispose]: () => { socket.destroy() } })
}

t.test('the bundle is served to whoever asks', async t => {
  await using endpoint = await serve()
  const { ask, source, port } = endpoint

  await t.test('FED-01 FED-16 FED-17 TDB-06 TDB-08 to a GET without any proof of identity', async t => {
    const { status, headers, body } = await ask()
    t.equal(status, 200)
    t.equal(headers['content-type'], 'application/json')
    t.equal(headers['cache-control'], 'no-cache', 'FED-17 whoever stores it asks whether it is still the newest')
    t.same(parseBundleDocument(body, authority.trustDomain), published)
    t.equal(Number(headers['content-length']), body.length)
    source.value = { ...bundle, refreshHintSeconds: 60 }
    t.equal(parseBundleDocument((await ask()).body, authority.trustDomain).refreshHintSeconds, 60, 'a hint of its own stays')
    source.value = bundle
  })

  await t.test('HEAD, and what has not changed, without it', async t => {
    const { headers: { etag = '' }, body } = await ask({ method: 'HEAD' })
    t.equal(body.length, 0)
    for (const condition of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
      const answer = await ask({ headers: { 'if-none-match': condition } })
      t.match(answer, { status: 304, headers: { etag } }, condition)
      t.equal(answer.body.length, 0)
    }
    source.value = { ...bundle, sequenceNumber: 8n }
    const changed = await ask({ headers: { 'if-none-match': etag } })
    t.equal(changed.status, 200)
    t.not(changed.headers.etag, etag)
    t.equal(parseBundleDocument(changed.body, authority.trustDomain).sequenceNumber, 8n, 'FED-17 the newest')
  })

  await t.test('nothing else is reachable', async t => {
    for (const path of ['/bundle', '//', '/./', '/%2e', '/index.html', '/metrics', `https://127.0.0.1:${port}/`, '/../']) {
      t.match(await ask({ path }), { status: 404, headers: { connection: 'close' }, body: { length: 0 } }, path)
    }
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'PATCH']) {
      t.match(await ask({ method }), { status: 405, headers: { allow: 'GET, HEAD', connection: 'close' } }, method)
    }
    t.equal((await ask({ path: '/?anything' })).status, 200, 'FED-15 a query is free')
    source.value = undefined
    t.match(await ask(), { status: 503, headers: { 'retry-after': '5' } }, 'nor a bundle that is not known yet')
    source.value = bundle
  })

  await t.test('a body is not read, nor taken for another request', async t => {
    const smuggled = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n'
    const socket = await handshake(port, {})
    socket.write(`GET / HTTP/1.1\r\nhost: a\r\ncontent-length: ${smuggled.length}\r\n\r\n${smuggled}`)
    const text = (await buffer(socket)).toString()
    t.equal(text.split('HTTP/1.1 ').length - 1, 1)
    t.match(text, /connection: close/i)
  })

  await t.test('without TLS there is no answer', async t => {
    const socket = connectPlain(port, '127.0.0.1')
    socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    t.notMatch((await buffer(socket).catch(() => Buffer.alloc(0))).toString(), /HTTP/)
  })

  await t.test('FED-11 by Mozilla\'s intermediate profile', async t => {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      using socket = await handshake(port, { maxVersion })
      t.equal(socket.getProtocol(), maxVersion)
    }
    await t.rejects(handshake(port, { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }), 'no TLS 1.1')
    for (const ciphers of ['AES128-GCM-SHA256', 'ECDHE-ECDSA-AES128-SHA', 'ECDHE-ECDSA-AES256-SHA384', 'DHE-RSA-AES128-SHA']) {
      await t.rejects(handshake(port, { maxVersion: 'TLSv1.2', ciphers }), ciphers)
    }
    for (const ciphers of ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-CHACHA20-POLY1305']) {
      using socket = await handshake(port, { maxVersion: 'TLSv1.2', ciphers })
      t.equal(socket.getCipher().name, ciphers)
    }
    using socket = await handshake(port, { maxVersion: 'TLSv1.2' })
    t.equal(socket.getTLSTicket(), undefined, 'without tickets')
  })
})

t.test('FED-10 both profiles, read by our client', async t => {
  const svids = [await authority.issue('/spire/server'), await authority.issue('/spire/server')]
  let shown = svids[0]!
  await using endpoint = await serve(svidCertificate(() => shown), { path: '/bundle' })
  const clock = new ManualClock(new Date())
  const deps = { webRoots: new WebRoots({ roots: [webCa.root] }), bundleOf: authority.bundleOf, clock }
  const at = { trustDomain: 'example.org', url: `https://127.0.0.1:${endpoint.port}/bundle` }
  const bySpiffe = parseBundleEndpoint({ ...at, profile: 'https_spiffe', endpointId: 'spiffe://example.org/spire/server' })
  const last = await fetchBundle(bySpiffe, deps, never)
  t.same(last.bundle, published, 'FED-26 the server\'s own X509-SVID')
  t.ok((await fetchBundle(bySpiffe, { ...deps, last }, never)).unchanged)
  const wrong = parseBundleEndpoint({ ...at, profile: 'https_web' })
  await t.rejects(fetchBundle(wrong, deps, never), { code: 'bundle_endpoint_untrusted' }, 'FED-13')
  const serial = async () => {
    using socket = await handshake(endpoint.port, {})
    return socket.getPeerX509Certificate()?.raw
  }
  t.same(new Uint8Array(await serial() ?? []), svids[0]?.chain[0])
  shown = svids[1]!
  t.same(new Uint8Array(await serial() ?? []), svids[1]?.chain[0], 'FED-26 a renewed one is shown at once')

  await using other = await serve()
  const byWeb = parseBundleEndpoint({ trustDomain: 'example.org', url: `https://localhost:${other.port}`, profile: 'https_web' })
  t.same((await fetchBundle(byWeb, deps, never)).bundle, published)
})

t.test('certificate files are taken over when they change', async t => {
  const folder = t.testdir()
  const [certificatePath, keyPath] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  const { log, lines } = capturedLog()
  const clock = new ManualClock(new Date())
  const errors = () => lines.filter(({ level }) => level === 'error').length
  await t.rejects(CertificateFiles.open({ certificatePath, keyPath }, { clock, log, expiredAtStart: 'shown' }), { code: 'file_unusable' })
  const put = async ({ cert, key }: { readonly cert: string, readonly key: string }) => {
    // Of another inode each time, as tools that renew write them.
    for (const [path, text] of [[certificatePath, cert], [keyPath, key]] as const) {
      await writeFile(`${path}.new`, text)
      await rename(`${path}.new`, path)
    }
  }
  const renewed = await webCa.certify()
  await put(certified)
  const files = await CertificateFiles.open({ certificatePath, keyPath }, { clock, log, expiredAtStart: 'shown' })
  const stop = new AbortController()
  const running = files.run(stop.signal).catch((error: unknown) => error)
  await using endpoint = await serve(files)
  const shown = async () => {
    using socket = await handshake(endpoint.port, {})
    return socket.getPeerX509Certificate()?.toString().trim()
  }
  const asleep = async () => { while (clock.sleeping === 0) await settle() }
  const look = async (until: () => boolean = () => true) => {
    await asleep()
    await clock.advance(2_000)
    while (!until()) await settle()
    await asleep()
  }
  t.equal(await shown(), certified.cert.trim())

  await put({ cert: renewed.cert, key: certified.key })
  await look(() => errors() === 1)
  t.equal(await shown(), certified.cert.trim(), 'half of a renewal is not taken')
  await look()
  t.equal(errors(), 1, 'which is said once')
  await put({ cert: renewed.cert, key: 'nonsense' })
  await look(() => errors() === 2)
  const before = files.current()
  await put(renewed)
  await look(() => files.current() !== before)
  t.equal(await shown(), renewed.cert.trim(), 'FED-22 the whole of it is, without a restart')
  await put(await webCa.certify({ notAfter: new Date(clock.now().getTime() - 1_000) }))
  await look(() => errors() === 3)
  t.equal(await shown(), renewed.cert.trim(), 'one that has expired takes nobody\'s place')
  stop.abort(new Error('stopped'))
  t.match(await running, { message: 'stopped' })
  const expired = { code: 'file_unusable', message: /expired at/ }
  await t.rejects(CertificateFiles.open({ certificatePath, keyPath }, { clock, log, expiredAtStart: 'refused' }), expired)
  const shownAnyway = await CertificateFiles.open({ certificatePath, keyPath }, { clock, log, expiredAtStart: 'shown' })
  t.ok(shownAnyway.current(), 'a server starts with it all the same')
  t.match(lines.at(-1), { level: 'warn', reason: /expired at/ })
})

t.test('limits', async t => {
  await t.test('an address that asks too often is told to wait', async t => {
    // A connection costs one, and so does a request.
    await using endpoint = await serve(fixed, { limits: { rate: { burst: 4, perSecond: 1 } } })
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: webCa.root })
    const statuses: Array<number | undefined> = []
    for (let round = 0; round < 4; round++) statuses.push((await endpoint.ask({ agent })).status)
    t.same(statuses, [200, 200, 200, 429])
    agent.destroy()
    await t.rejects(endpoint.ask(), 'nor gets a connection')
    await endpoint.clock.advance(2_000)
    t.equal((await endpoint.ask()).status, 200)
  })

  await t.test('nobody holds all connections', async t => {
    await using endpoint = await serve(fixed, { limits: { maxConnectionsPerAddress: 2 } })
    using first = await handshake(endpoint.port, {})
    const second = await handshake(endpoint.port, {})
    await t.rejects(handshake(endpoint.port, {}))
    second.destroy()
    while (endpoint.lines.every(({ reason }) => reason !== 'too many are open from there')) await settle()
    for (let tries = 0; ; tries++) {
      const third = await handshake(endpoint.port, {}).catch(() => undefined)
      third?.destroy()
      if (third !== undefined || tries > 1000) break
    }
    t.notOk(first.destroyed)
    await using small = await serve(fixed, { limits: { maxConnections: 1 } })
    using only = await handshake(small.port, {})
    await t.rejects(handshake(small.port, {}))
    t.notOk(only.destroyed)
  })

  t.test('an IPv6 client is counted by its network', async t => {
    t.equal(peerNetwork('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2::/64')
    t.equal(peerNetwork('2001:db8::6'), '2001:db8:0:0::/64')
    t.equal(peerNetwork('::1'), '0:0:0:0::/64')
    t.equal(peerNetwork('fe80::1%eth0'), 'fe80:0:0:0::/64')
    t.equal(peerNetwork('::ffff:192.0.2.1'), '192.0.2.1')
    t.equal(peerNetwork('192.0.2.1'), '192.0.2.1')
    const allowance = new AddressAllowance({ burst: 1, perSecond: 1 })
    const take = (address: string, nowMs: number) => allowance.take(peerNetwork(address), nowMs) === 0
    t.ok(take('2001:db8::1', 0))
    t.notOk(take('2001:db8::2', 0))
    t.ok(take('2001:db8:0:1::1', 0))
    t.ok(take('2001:db8::2', 1000))
  })
})

t.test('stopping', async t => {
  await t.test('ends idle connections at once, and takes no others', async t => {
    const endpoint = await serve()
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: webCa.root })
    t.equal((await endpoint.ask({ agent })).status, 200)
    endpoint.stop.abort()
    await endpoint.running
    await t.rejects(endpoint.ask(), { code: 'ECONNREFUSED' })
    agent.destroy()
  })

  await t.test('gives those who are being answered their time, and not more', async t => {
    const endpoint = await serve()
    const socket = await handshake(endpoint.port, {})
    socket.on('error', () => undefined).write('GET / HTTP/1.1\r\n')
    const gone = once(socket, 'close')
    await settle()
    endpoint.stop.abort()
    while (endpoint.clock.sleeping === 0) await settle()
    socket.resume()
    await endpoint.clock.advance(5_000)
    await endpoint.running
    await gone
    t.pass()
  })
})

t.test('an address that cannot be used is refused', async t => {
  await using endpoint = await serve()
  await t.rejects(serve(fixed, { port: endpoint.port }), { code: 'address_unusable' })
})

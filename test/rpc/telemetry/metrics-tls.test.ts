import { rename, writeFile } from 'node:fs/promises'
import { get } from 'node:https'
import { join } from 'node:path'
import type { SecureContextOptions } from 'node:tls'
import t, { type Test } from 'tap'
import { type MetricsTlsDeps, openMetricsTls } from '../../../src/rpc/telemetry/metrics-tls.ts'
import type { PrometheusTls } from '../../../src/rpc/telemetry/telemetry-config.ts'
import { contextOptions } from '../../../src/rpc/tls-identity.ts'
import { createMetrics, serveMetrics } from '../../../src/runtime/metrics.ts'
import { runTasks } from '../../../src/runtime/tasks.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { createWebCa, type WebCertificate } from '../../federation/web-ca.ts'
import { createTestAuthority, type TestSvid } from '../../fakes/authority.ts'
import { capturedLog } from '../../fakes/captured-log.ts'
import { ManualClock } from '../../fakes/clock.ts'
import { eventually } from '../../fakes/eventually.ts'

const authority = await createTestAuthority('example.org')
const partner = await createTestAuthority('partner.org')
const impostor = await createTestAuthority('example.org')
const stranger = await createTestAuthority('stranger.org')
const metrics = createMetrics({ prefix: 'assay_test', ofProcess: false })
metrics.gauge({ name: 'held', help: 'ours' }).set(7)

const bundleOf: MetricsTlsDeps['bundleOf'] = name => name === partner.trustDomain ? partner.bundle : authority.bundleOf(name)

async function serve (t: Test, config: PrometheusTls, deps: Partial<MetricsTlsDeps> = {}) {
  const { log, lines } = capturedLog()
  const clock = new ManualClock(new Date())
  const { run, ...tls } = await openMetricsTls(config, { identity: () => undefined, bundleOf, clock, log, ...deps })
  const stop = new AbortController()
  const { promise: port, resolve } = Promise.withResolvers<number>()
  const running = runTasks(stop.signal, [
    signal => serveMetrics(metrics, { host: '127.0.0.1', port: 0, onListening: resolve, ...tls }, log, signal),
    ...run === undefined ? [] : [run]
  ])
  t.teardown(async () => {
    stop.abort(new Error('the test is over'))
    await running
  })
  return { port: await port, clock, lines, mayRead: tls.mayRead }
}

/** @returns the status and whose certificate was seen, or why there is none */
function read (port: number, options: SecureContextOptions = {}): Promise<string> {
  return new Promise(resolve => {
    const request = get({
      host: '127.0.0.1', port, path: '/metrics', agent: false, rejectUnauthorized: false, checkServerIdentity: () => undefined, ...options
    }, response => {
      const socket = response.socket as unknown as { getPeerCertificate (): { subjectaltname?: string } }
      const { subjectaltname: names = '' } = socket.getPeerCertificate()
      response.setEncoding('utf8').on('data', (text: string) => {
        if (!text.includes('assay_test_held 7')) resolve('it is not the text')
      })
      response.on('end', () => resolve(`${response.statusCode} by ${names}`))
    })
    request.on('error', error => resolve((error as NodeJS.ErrnoException).code ?? error.message))
  })
}

const by = (svid: TestSvid) => contextOptions(svid)
const readers = (...ids: string[]) => ({ ids: new Set(ids.map(parseSpiffeId)) })
const isRefused = /^(ECONNRESET|EPIPE|EPROTO|ERR_SSL_\w+|socket hang up)$/

void t.test('the own X509-SVID is shown, the newest, and none is waited for', async t => {
  let own: TestSvid | undefined
  const { port } = await serve(t, { shown: 'svid', readers: undefined }, { identity: () => own })
  t.match(await read(port), isRefused, 'before there is one nobody is let in')
  own = await authority.issue('/spire/server')
  t.equal(await read(port), '200 by URI:spiffe://example.org/spire/server', 'nobody has to show a certificate')
  own = await authority.issue('/renewed')
  t.equal(await read(port), '200 by URI:spiffe://example.org/renewed')
})

void t.test('X509-SVIDs that are named may read, of partners too; nobody else', async t => {
  const own = await authority.issue('/spire/server')
  const { port, lines, clock } = await serve(t, {
    shown: 'svid', readers: readers('spiffe://example.org/prometheus', 'spiffe://partner.org/prometheus', 'spiffe://stranger.org/prometheus')
  }, { identity: () => own })
  const shown = '200 by URI:spiffe://example.org/spire/server'
  t.equal(await read(port, by(await authority.issue('/prometheus'))), shown)
  t.equal(await read(port, by(await partner.issue('/prometheus'))), shown)
  t.equal(await read(port, { ...by(await authority.issue('/prometheus')), maxVersion: 'TLSv1.2' }), shown)
  t.strictSame(lines.filter(({ level }) => level === 'warn'), [])
  for (const [who, svid, expected] of [
    ['another of the trust domain', await authority.issue('/other'), { spiffeId: 'spiffe://example.org/other' }],
    ['one of a trust domain without a bundle', await stranger.issue('/prometheus'), { code: 'x509_chain_untrusted' }],
    ['one that says to be of another', await impostor.issue('/prometheus'), { code: 'x509_chain_untrusted' }],
    ['nobody', undefined, { code: 'peer_unauthenticated' }]
  ] as const) {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      lines.splice(0)
      t.match(await read(port, { ...svid === undefined ? {} : by(svid), maxVersion }), isRefused, `${who}, ${maxVersion}`)
      t.match(lines, [{ level: 'warn', msg: /metrics are not shown/, ...expected }], who)
    }
  }
  lines.splice(0)
  const short = await authority.issue('/prometheus', { notAfter: new Date(clock.now().getTime() + 60_000) })
  t.equal(await read(port, by(short)), shown)
  await clock.advance(61_000)
  t.match(await read(port, by(short)), isRefused)
  t.match(lines.at(-1), { code: 'x509_svid_expired' })
})

void t.test('require_pq_kem counts here too, as at SPIRE', async t => {
  const own = await authority.issue('/spire/server')
  const { port } = await serve(t, { shown: 'svid', readers: undefined }, { identity: () => own, requirePqKem: true })
  t.match(await read(port, { ecdhCurve: 'X25519' }), isRefused)
  t.match(await read(port, { maxVersion: 'TLSv1.2' }), isRefused)
  t.match(await read(port, { ecdhCurve: 'X25519MLKEM768' }), /^200/)
})

void t.test('files are shown as they become, and X509-SVIDs may read there too', async t => {
  const webCa = await createWebCa()
  const put = filesIn(t.testdir())
  const paths = await put(await webCa.certify())
  const { port, clock, lines } = await serve(t, { shown: paths, readers: readers('spiffe://example.org/prometheus') })
  const prometheus = by(await authority.issue('/prometheus'))
  t.equal(await read(port, { ...prometheus, ca: webCa.root }), '200 by DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1')
  t.match(await read(port), isRefused)
  await put(await webCa.certify({ dns: ['new.test'], ips: [] }))
  await eventually('the new one is shown', async () => {
    await clock.advance(2_000)
    return await read(port, prometheus) === '200 by DNS:new.test'
  })
  await put({ cert: 'none', key: 'none' })
  await eventually('it is told', async () => {
    await clock.advance(2_000)
    return lines.some(({ level, msg }) => level === 'error' && /the one before goes on/.test(String(msg)))
  })
  t.equal(await read(port, prometheus), '200 by DNS:new.test')
})

void t.test('whom the authorities of a file certify may read, as the file is by then', async t => {
  const [webCa, clientCa, nextCa] = [await createWebCa(), await createWebCa(), await createWebCa()]
  const folder = t.testdir()
  const put = filesIn(folder)
  const paths = await put(await webCa.certify({ dns: ['m.test'], ips: [] }))
  const caPath = join(folder, 'ca.pem')
  const putCa = async (text: string) => {
    await writeFile(`${caPath}.new`, text)
    await rename(`${caPath}.new`, caPath)
  }
  const config = { shown: paths, readers: { caPath } }
  const deps = { identity: () => undefined, bundleOf, clock: new ManualClock(), log: capturedLog().log }
  await t.rejects(openMetricsTls(config, deps), { code: 'file_unusable', message: /ca\.pem/ }, 'there must be such a file')
  await putCa('nothing')
  await t.rejects(openMetricsTls(config, deps), { code: 'file_unusable', message: /ca\.pem has no certificate/ })
  await putCa(clientCa.root)
  const { port, clock } = await serve(t, config)
  const [client, next, svid] = [await clientCa.certify(), await nextCa.certify(), by(await authority.issue('/prometheus'))]
  t.equal(await read(port, client), '200 by DNS:m.test')
  for (const [who, options] of Object.entries({ 'another authority': next, 'an X509-SVID': svid, nobody: {} })) {
    t.match(await read(port, options), isRefused, who)
    t.match(await read(port, { ...options, maxVersion: 'TLSv1.2' }), isRefused, who)
  }
  await putCa(nextCa.root)
  await eventually('the new authority is believed', async () => {
    await clock.advance(2_000)
    return await read(port, next) === '200 by DNS:m.test'
  })
  t.match(await read(port, client), isRefused, 'and the old one no more')
})

void t.test('a connection that stays is asked again', async t => {
  const own = await authority.issue('/spire/server')
  const { mayRead } = await serve(t, { shown: 'svid', readers: readers('spiffe://example.org/p') }, { identity: () => own })
  const refused = createMetrics({ prefix: 'assay_test', ofProcess: false })
  t.notOk(mayRead({ socket: { destroyed: false, getPeerX509Certificate: () => undefined } } as never))
  const stop = new AbortController()
  const { promise: port, resolve } = Promise.withResolvers<number>()
  const options = { host: '127.0.0.1', port: 0, onListening: resolve, mayRead: () => false }
  const running = serveMetrics(refused, options, capturedLog().log, stop.signal)
  const { status, headers } = await fetch(`http://127.0.0.1:${await port}/metrics`)
  t.match({ status, connection: headers.get('connection') }, { status: 403, connection: 'close' })
  stop.abort()
  await running
})

function filesIn (folder: string) {
  const paths = { certificatePath: join(folder, 'cert.pem'), keyPath: join(folder, 'key.pem') }
  return async ({ cert, key }: WebCertificate) => {
    for (const [path, text] of [[paths.certificatePath, cert], [paths.keyPath, key]] as const) {
      await writeFile(`${path}.new`, text)
      await rename(`${path}.new`, path)
    }
    return paths
  }
}

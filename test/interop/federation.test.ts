import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { fetchBundle } from '../../src/federation/client/fetch-bundle.ts'
import { WebRoots } from '../../src/federation/client/web-roots.ts'
import { serveBundleEndpoint } from '../../src/federation/endpoint/serve-bundle-endpoint.ts'
import { svidCertificate } from '../../src/rpc/svid-certificate.ts'
import type { ServingCertificate } from '../../src/rpc/serving-certificate.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseBundleEndpoint } from '../../src/spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { createTestAuthority, type TestSvid } from '../fakes/authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { startServer } from '../fakes/processes.ts'
import { createWebCa, type WebCertificate } from '../federation/web-ca.ts'
import { Administrator } from './administrator.ts'
import { buildGoPrograms, GoWatcher, runGoProgram, withoutGo, type Line } from './go-programs.ts'

if (withoutGo === false) await buildGoPrograms()

const never = new AbortController().signal
const patienceMs = 60_000
const endpointId = 'spiffe://example.org/spire/server'
const [authority, webCa] = await Promise.all([createTestAuthority('example.org'), createWebCa()])
const next = await createTestAuthority('example.org', { keyType: 'rsa-2048', jwtKeyId: 'next-jwt' })
const [certified, svid] = await Promise.all([webCa.certify(), authority.issue('/spire/server')])
// Beyond what a double holds (TDB-07).
const first: Bundle = { ...authority.bundle, sequenceNumber: 2n ** 63n + 1n, refreshHintSeconds: 300 }
const second: Bundle = {
  ...first, sequenceNumber: 2n ** 63n + 2n,
  x509Authorities: [...first.x509Authorities, ...next.bundle.x509Authorities],
  jwtAuthorities: [...first.jwtAuthorities, ...next.bundle.jwtAuthorities]
}

/** As go-spiffe's client prints it. */
const printed = ({ x509Authorities, jwtAuthorities, sequenceNumber, refreshHintSeconds }: Bundle) => ({
  event: 'bundle', x509: x509Authorities.map(({ certificate }) => Buffer.from(certificate).toString('base64')),
  jwt: jwtAuthorities.map(({ keyId }) => keyId).toSorted(), sequence: String(sequenceNumber), hint: refreshHintSeconds
})
/** go-spiffe keeps JWT authorities in a map, and writes them in any order. */
const inOrder = (bundle: Bundle): Bundle =>
  ({ ...bundle, jwtAuthorities: bundle.jwtAuthorities.toSorted((a, b) => a.keyId < b.keyId ? -1 : 1) })
const pemOf = ({ chain, privateKey }: TestSvid) => ({
  cert: chain.map(der => encodePem('CERTIFICATE', der)).join(''), key: encodePem('PRIVATE KEY', privateKey)
})

async function put (t: Test, files: Readonly<Record<string, string>>): Promise<(name: string) => string> {
  const folder = t.testdir()
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text)
  return name => join(folder, name)
}

t.test('go-spiffe\'s client reads our endpoint', { skip: withoutGo }, async t => {
  const path = await put(t, { web: webCa.root, spiffe: formatBundleDocument(first), other: formatBundleDocument(next.bundle) })
  const profiles: Readonly<Record<string, readonly [ServingCertificate, readonly string[]]>> = {
    https_web: [{ current: () => certified }, ['-roots', path('web')]],
    https_spiffe: [svidCertificate(() => svid), ['-roots', path('spiffe'), '-id', endpointId]]
  }
  for (const [profile, [certificate, trust]] of Object.entries(profiles)) {
    await t.test(profile, async t => {
      const stop = new AbortController()
      const source: { value: Bundle } = { value: first }
      const listening = Promise.withResolvers<{ readonly port: number }>()
      const running = serveBundleEndpoint({ host: '127.0.0.1', port: 0, path: '/bundle' }, {
        bundle: source, certificate, clock: systemClock, log: silentLogger, onListening: listening.resolve
      }, stop.signal)
      running.catch(listening.reject)
      const { port } = await listening.promise
      const words = ['-profile', profile, '-domain', 'example.org', '-url', `https://localhost:${port}/bundle`, ...trust]
      const fetched = await runGoProgram('federation-peer', ['fetch', ...words])
      t.same(fetched.lines, [printed(first)], `FED-17 FED-22 FED-26 FetchBundle reads every key, the number and the hint by ${profile}`)
      if (profile === 'https_spiffe') {
        const [refused] = (await runGoProgram('federation-peer', ['fetch', ...words, '-id', 'spiffe://example.org/other'])).lines
        t.match(refused, { event: 'refused', error: /unexpected ID/ })
        const [stranger] = (await runGoProgram('federation-peer', ['fetch', ...words, '-roots', path('other')])).lines
        t.match(stranger, { event: 'refused' }, 'FED-09 nor under another authority')
      }
      {
        await using watcher = await GoWatcher.start('federation-peer', ['watch', ...words])
        t.same(await watcher.next('bundle', 'the bundle', () => true), printed(first), `WatchBundle begins with it by ${profile}`)
        source.value = second
        t.same(await watcher.next('bundle', 'the new bundle', () => true), printed(second), 'TDB-15 and sees the next authority')
      }
      stop.abort()
      await running
    })
  }
})

t.test('our client reads go-spiffe\'s handler', { skip: withoutGo }, async t => {
  const { cert, key } = pemOf(svid)
  const path = await put(t, { cert, key, webCert: certified.cert, webKey: certified.key, document: formatBundleDocument(first) })
  const deps = { webRoots: new WebRoots({ roots: [webCa.root] }), bundleOf: authority.bundleOf, clock: systemClock }
  for (const [profile, files] of Object.entries({
    https_web: ['-cert', path('webCert'), '-key', path('webKey')], https_spiffe: ['-cert', path('cert'), '-key', path('key')]
  })) {
    await t.test(profile, async t => {
      await using peer = await GoWatcher.start('federation-peer', [
        'serve', '-profile', profile, '-domain', 'example.org', '-document', path('document'), ...files
      ])
      const { port } = await peer.next('listening', 'the handler', () => true)
      const at = (endpointId?: string) => parseBundleEndpoint({ trustDomain: 'example.org', url: `https://localhost:${Number(port)}/`, profile, endpointId })
      const endpoint = at(profile === 'https_spiffe' ? endpointId : undefined)
      await writeFile(path('document'), formatBundleDocument(first))
      t.same(inOrder((await fetchBundle(endpoint, deps, never)).bundle), inOrder(first), `FED-10 by ${profile}`)
      await writeFile(path('document'), formatBundleDocument(second))
      t.same(inOrder((await fetchBundle(endpoint, deps, never)).bundle), inOrder(second), 'TDB-15 and the next authority')
      await writeFile(path('document'), 'nothing')
      await t.rejects(fetchBundle(endpoint, deps, never), { code: 'bundle_endpoint_unreachable', details: { status: 500 } })
      if (profile === 'https_web') return
      await t.rejects(fetchBundle(at('spiffe://example.org/other'), deps, never), { code: 'bundle_endpoint_untrusted', requirement: 'FED-27' })
    })
  }
})

t.test('a running server and go-spiffe follow each other, by certificate files', { skip: withoutGo }, async t => {
  const partner = await createTestAuthority('partner.test')
  const partnerNext = await createTestAuthority('partner.test')
  const published: Bundle = { ...partner.bundle, sequenceNumber: 2n ** 63n + 1n, refreshHintSeconds: 1 }
  const path = await put(t, { web: webCa.root, ...certified, document: formatBundleDocument(published) })
  await using peer = await GoWatcher.start('federation-peer', [
    'serve', '-profile', 'https_web', '-domain', 'partner.test', '-document', path('document'), '-cert', path('cert'), '-key', path('key')
  ])
  const { port } = await peer.next('listening', 'the handler', () => true, patienceMs)
  const files = { cert_file_path: path('serverCert'), key_file_path: path('serverKey'), file_sync_interval: '100ms' }
  const show = async ({ cert, key }: WebCertificate) => {
    await writeFile(path('serverCert'), cert)
    await writeFile(path('serverKey'), key)
  }
  await show(certified)
  await using server = await startServer({
    config: {
      federation: {
        bundle_endpoint: { address: '127.0.0.1', port: 0, profile: { https_web: { serving_cert_file: files } } },
        web_ca_path: path('web'), least_refresh_interval: '1s',
        federates_with: {
          'partner.test': { bundle_endpoint_url: `https://localhost:${Number(port)}/`, bundle_endpoint_profile: { https_web: {} } }
        }
      }
    }
  })
  await using admin = new Administrator(server)

  await t.test('the server follows go-spiffe\'s handler', async t => {
    const sequence = async () => (await admin.bundles.listFederatedBundles({})).bundles[0]?.sequenceNumber
    await eventually('the bundle', async () => await sequence() === published.sequenceNumber, patienceMs)
    const x509Authorities = [...partner.bundle.x509Authorities, ...partnerNext.bundle.x509Authorities]
    await writeFile(path('document'), formatBundleDocument({ ...published, x509Authorities, sequenceNumber: 2n ** 63n + 2n }))
    await eventually('the next one', async () => await sequence() === 2n ** 63n + 2n, patienceMs)
    t.equal((await admin.bundles.listFederatedBundles({})).bundles[0]?.x509Authorities.length, 2, 'FED-05 FED-10 unasked, by https_web')
  })

  await t.test('go-spiffe\'s client follows the server, whose certificate changes', async t => {
    const url = `https://${String((await server.process.logged('serving the bundle'))['address'])}/`
    await using watcher = await GoWatcher.start('federation-peer', [
      'watch', '-profile', 'https_web', '-domain', 'example.org', '-url', url, '-roots', path('web')
    ])
    const sizesOf = ({ x509, jwt }: Line) => [(x509 as unknown[]).length, (jwt as unknown[]).length]
    const bundle = async (what: string) => await watcher.next('bundle', what, () => true, patienceMs)
    t.same(sizesOf(await bundle('the bundle')), [1, 1])
    await admin.authorities.prepareX509Authority({})
    t.same(sizesOf(await bundle('the prepared root')), [2, 1], 'FED-17 the newest')
    await show(await (await createWebCa()).certify())
    // A call that fell between the two files, or took too long, is refused by other words.
    const isStranger = ({ error }: Line) => /certificate signed by unknown authority/.test(String(error))
    t.ok(await watcher.next('refused', 'a stranger', isStranger, patienceMs), 'FED-22')
    await show(await webCa.certify())
    await admin.authorities.prepareJWTAuthority({})
    t.same(sizesOf(await bundle('the prepared key')), [2, 2], 'and again once the certificate is one of its CA')
  })
})

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { fetchBundle } from '../../src/federation/client/fetch-bundle.ts'
import { WebRoots } from '../../src/federation/client/web-roots.ts'
import { serveBundleEndpoint } from '../../src/federation/endpoint/serve-bundle-endpoint.ts'
import { svidCertificate, type ServingCertificate } from '../../src/federation/endpoint/serving-certificate.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseBundleEndpoint } from '../../src/spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { createTestAuthority, type TestSvid } from '../fakes/authority.ts'
import { createWebCa } from '../federation/web-ca.ts'
import { buildGoPrograms, GoWatcher, runGoProgram, withoutGo } from './go-programs.ts'

if (withoutGo === false) await buildGoPrograms()

const never = new AbortController().signal
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

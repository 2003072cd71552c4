import { once } from 'node:events'
import { createServer } from 'node:net'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { fetchBundle, type FetchBundleDeps } from '../../src/federation/client/fetch-bundle.ts'
import { WebRoots } from '../../src/federation/client/web-roots.ts'
import { contextOptions } from '../../src/rpc/tls-identity.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseBundleEndpoint } from '../../src/spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import type { TrustDomain } from '../../src/spiffe/trust-domain.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { ManualClock } from '../fakes/clock.ts'
import { document, redirect, startFakePartner, type Answer } from './fake-partner.ts'
import { createWebCa } from './web-ca.ts'

const never = new AbortController().signal
const webCa = await createWebCa()
const certificate = await webCa.certify()
const authority = await createTestAuthority('partner.test')
const published: Bundle = { ...authority.bundle, sequenceNumber: 2n ** 63n + 1n, refreshHintSeconds: 300 }
const text = formatBundleDocument(published)
const webRoots = new WebRoots({ roots: [webCa.root] })
const noBundle = () => undefined

const web = (url: string) => parseBundleEndpoint({ trustDomain: 'partner.test', url, profile: 'https_web' })
const spiffe = (url: string, endpointId = 'spiffe://partner.test/endpoint') =>
  parseBundleEndpoint({ trustDomain: 'partner.test', url, profile: 'https_spiffe', endpointId })
const ago = (from: number, to: number) => ({ notBefore: new Date(Date.now() - from), notAfter: new Date(Date.now() - to) })
/** No time goes by unless a test says so: a busy machine is not a slow partner. */
const deps = (more: Partial<FetchBundleDeps> = {}): FetchBundleDeps =>
  ({ webRoots, bundleOf: noBundle, clock: new ManualClock(new Date()), ...more })

t.test('https_web', async t => {
  await using partner = await startFakePartner(certificate, document(text, { etag: '"1"' }))

  await t.test('FED-01 FED-21 FED-23 TDB-07 reads a bundle by URL, profile and trust domain alone', async t => {
    const { bundle, etag, unchanged } = await fetchBundle(web(`${partner.origin}/a/bundle?of=partner`), deps(), never)
    t.same(bundle, published)
    t.equal(etag, '"1"')
    t.notOk(unchanged)
    t.same(partner.asked.at(-1), { url: '/a/bundle?of=partner', condition: undefined }, 'FED-15 path and query are free')
    t.same((await fetchBundle(web(`https://localhost:${partner.port}`), deps(), never)).bundle, published, 'by a name too')
  })

  await t.test('FED-23 refuses a host that another CA vouches for, or that bears another name', async t => {
    const stranger = await createWebCa()
    const untrusted = { code: 'bundle_endpoint_untrusted', requirement: 'FED-23' }
    await t.rejects(fetchBundle(web(partner.origin), deps({ webRoots: new WebRoots({ roots: [stranger.root] }) }), never), untrusted)
    await t.rejects(fetchBundle(web(partner.origin), deps({ webRoots: new WebRoots() }), never), untrusted, 'nor does the web\'s')
    for (const [what, shown] of Object.entries({
      'another name': await webCa.certify({ dns: ['other.test'], ips: ['127.0.0.2'] }),
      'expired': await webCa.certify({ notAfter: new Date(Date.now() - 1000) })
    })) {
      await using other = await startFakePartner(shown, document(text))
      await t.rejects(fetchBundle(web(other.origin), deps(), never), untrusted, what)
      t.same(other.asked, [], 'FED-23 and asks it nothing')
    }
  })

  await t.test('believes further CAs in a file, read again when it changes', async t => {
    const stranger = await createWebCa()
    const extraCaPath = join(t.testdir(), 'extra.pem')
    const roots = new WebRoots({ roots: [stranger.root], extraCaPath })
    await t.rejects(fetchBundle(web(partner.origin), deps({ webRoots: roots }), never), { code: 'file_unusable' })
    await writeFile(extraCaPath, stranger.root)
    await t.rejects(fetchBundle(web(partner.origin), deps({ webRoots: roots }), never), { code: 'bundle_endpoint_untrusted' })
    await writeFile(extraCaPath, `${stranger.root}\n${webCa.root}`)
    t.same((await fetchBundle(web(partner.origin), deps({ webRoots: roots }), never)).bundle, published)
    await writeFile(extraCaPath, 'nothing')
    await t.rejects(fetchBundle(web(partner.origin), deps({ webRoots: roots }), never), { code: 'file_unusable' })
  })

  await t.test('FED-13 does not accept an X509-SVID', async t => {
    await using other = await startFakePartner(contextOptions(await authority.issue('/endpoint')), document(text))
    const roots = new WebRoots({ roots: [webCa.root] })
    await t.rejects(fetchBundle(web(other.origin), deps({ webRoots: roots, bundleOf: authority.bundleOf }), never),
      { code: 'bundle_endpoint_untrusted' })
  })

  await t.test('asks only for what has changed (RFC 9110 §13.1.2)', async t => {
    partner.answer = (request, response) => {
      if (request.headers['if-none-match'] === '"1"') response.writeHead(304).end()
      else document(text, { etag: '"1"' })(request, response)
    }
    const last = await fetchBundle(web(partner.origin), deps(), never)
    const again = await fetchBundle(web(partner.origin), deps({ last }), never)
    t.ok(again.unchanged)
    t.equal(again.bundle, last.bundle)
    partner.answer = (_request, response) => { response.writeHead(304).end() }
    await t.rejects(fetchBundle(web(partner.origin), deps(), never), { code: 'bundle_endpoint_unreachable' }, 'no condition, no 304')
    const unconditional = { ...last, etag: undefined }
    await t.rejects(fetchBundle(web(partner.origin), deps({ last: unconditional }), never), { code: 'bundle_endpoint_unreachable' })
  })
})

t.test('https_spiffe', async t => {
  const svid = await authority.issue('/endpoint')
  await using partner = await startFakePartner(contextOptions(svid), document(text))
  const bundleOf = authority.bundleOf

  await t.test('FED-10 FED-27 accepts the configured ID, whatever the host is called', async t => {
    t.same((await fetchBundle(spiffe(partner.origin), deps({ bundleOf }), never)).bundle, published)
    t.same((await fetchBundle(spiffe(`https://localhost:${partner.port}/`), deps({ bundleOf }), never)).bundle, published)
  })

  await t.test('FED-27 refuses everybody else, and asks them nothing', async t => {
    const asked = partner.asked.length
    const untrusted = { code: 'bundle_endpoint_untrusted' }
    await t.rejects(fetchBundle(spiffe(partner.origin, 'spiffe://partner.test/other'), deps({ bundleOf }), never),
      { ...untrusted, requirement: 'FED-27' }, 'another ID')
    await t.rejects(fetchBundle(spiffe(partner.origin, 'spiffe://partner.test'), deps({ bundleOf }), never), untrusted, 'an ID above it')
    const namesake = await createTestAuthority('partner.test')
    await t.rejects(fetchBundle(spiffe(partner.origin), deps({ bundleOf: namesake.bundleOf }), never), untrusted, 'of another authority')
    const revoked = { ...authority.bundle, x509Authorities: [] }
    await t.rejects(fetchBundle(spiffe(partner.origin), deps({ bundleOf: () => revoked }), never), untrusted, 'TDB-13 of no authority')
    t.equal(partner.asked.length, asked)
    for (const [what, shown] of Object.entries({
      'a web certificate': certificate,
      'an expired SVID': contextOptions(await authority.issue('/endpoint', ago(9000, 2000)))
    })) {
      await using other = await startFakePartner(shown, document(text))
      await t.rejects(fetchBundle(spiffe(other.origin), deps({ bundleOf }), never), untrusted, `FED-13 ${what}`)
      t.same(other.asked, [])
    }
  })

  await t.test('FED-09 FED-28 takes the bundle of the ID\'s own domain and no other', async t => {
    const host = await createTestAuthority('host.test')
    await using hosted = await startFakePartner(contextOptions(await host.issue('/bundles')), document(text))
    const seen: TrustDomain[] = []
    const both = (trustDomain: TrustDomain) => {
      seen.push(trustDomain)
      return [authority, host].find(candidate => candidate.trustDomain === trustDomain)?.bundle
    }
    const endpoint = spiffe(hosted.origin, 'spiffe://host.test/bundles')
    t.same((await fetchBundle(endpoint, deps({ bundleOf: both }), never)).bundle, published)
    t.same(seen, ['host.test'])
    const forged = await createTestAuthority('host.test')
    const mixed = () => ({ ...host.bundle, trustDomain: authority.trustDomain })
    await t.rejects(fetchBundle(endpoint, deps({ bundleOf: mixed }), never), { code: 'bundle_endpoint_untrusted' })
    await t.rejects(fetchBundle(endpoint, deps({ bundleOf: () => forged.bundle }), never), { code: 'bundle_endpoint_untrusted' })
  })

  await t.test('FED-24 refuses to ask as long as nothing vouches for the ID', async t => {
    const before = partner.connections
    await t.rejects(fetchBundle(spiffe(partner.origin), deps(), never), { code: 'bundle_endpoint_id_unknown', requirement: 'FED-24' })
    t.equal(partner.connections, before)
  })
})

t.test('redirects', async t => {
  await using target = await startFakePartner(certificate, document(text))
  await using partner = await startFakePartner(certificate, redirect(`${target.origin}/there?x=1`))

  await t.test('FED-18 FED-19 are followed, temporary or not', async t => {
    for (const status of [301, 302, 303, 307, 308]) {
      partner.answer = redirect(`${target.origin}/there?x=1#part`, status)
      const fetched = await fetchBundle(web(partner.origin), deps(), never)
      t.same(fetched.bundle, published)
      t.equal(fetched.url, `${target.origin}/there?x=1`)
    }
    partner.answer = (request, response) => {
      if (request.url === '/') redirect('deeper/bundle')(request, response)
      else document(text)(request, response)
    }
    t.equal((await fetchBundle(web(partner.origin), deps(), never)).url, `${partner.origin}/deeper/bundle`, 'to the same host too')
  })

  await t.test('FED-20 are forgotten', async t => {
    target.answer = document(text, { etag: '"1"' })
    partner.answer = redirect(target.origin, 301)
    const last = await fetchBundle(web(partner.origin), deps(), never)
    partner.answer = document(text)
    target.asked.length = 0
    t.equal((await fetchBundle(web(partner.origin), deps({ last }), never)).url, partner.origin)
    t.same(target.asked, [])
    t.equal(partner.asked.at(-1)?.condition, undefined, 'a mark of one place is not shown at another')
  })

  await t.test('FED-19 are refused where they leave https, name a user, or go on for ever', async t => {
    const refused = { code: 'bundle_redirect_refused', requirement: 'FED-19' }
    const plain = createServer(() => t.fail('it was asked without TLS')).listen(0, '127.0.0.1')
    await once(plain, 'listening')
    const { port } = plain.address() as { port: number }
    for (const location of [
      `http://127.0.0.1:${port}/`, `HTTP://127.0.0.1:${port}/`, `https://user@127.0.0.1:${target.port}/`, `https://@127.0.0.1:${target.port}/`,
      `//user:word@127.0.0.1:${target.port}/`, `https:\\\\127.0.0.1:${target.port}/`, `https:/127.0.0.1:${target.port}/`, 'ftp://127.0.0.1/',
      'file:///etc/hosts', 'https://', `https://127.0.0.1:${target.port}/a b`
    ]) {
      partner.answer = redirect(location)
      target.asked.length = 0
      await t.rejects(fetchBundle(web(partner.origin), deps(), never), refused, location)
      t.same(target.asked, [])
    }
    plain.close()
    partner.answer = (_request, response) => { response.writeHead(302).end() }
    await t.rejects(fetchBundle(web(partner.origin), deps(), never), refused, 'nowhere')
    partner.answer = redirect('/again')
    const before = partner.asked.length
    await t.rejects(fetchBundle(web(partner.origin), deps(), never), refused, 'in circles')
    t.equal(partner.asked.length - before, 6, 'after five')
  })

  await t.test('FED-19 can be switched off', async t => {
    partner.answer = redirect(target.origin)
    await t.rejects(fetchBundle(web(partner.origin), deps({ followRedirects: false }), never), { code: 'bundle_redirect_refused' })
  })

  await t.test('FED-19 FED-29 every hop proves who it is', async t => {
    await using stranger = await startFakePartner(await (await createWebCa()).certify(), document(text))
    partner.answer = redirect(stranger.origin)
    await t.rejects(fetchBundle(web(partner.origin), deps(), never), { code: 'bundle_endpoint_untrusted', requirement: 'FED-23' })
    t.same(stranger.asked, [])
    await using same = await startFakePartner(contextOptions(await authority.issue('/endpoint')), document(text))
    await using other = await startFakePartner(contextOptions(await authority.issue('/other')), document(text))
    await using first = await startFakePartner(contextOptions(await authority.issue('/endpoint')), redirect(other.origin))
    const { bundleOf } = authority
    const untrusted = { code: 'bundle_endpoint_untrusted', requirement: 'FED-27' }
    await t.rejects(fetchBundle(spiffe(first.origin), deps({ bundleOf }), never), untrusted)
    t.same(other.asked, [])
    first.answer = redirect(same.origin)
    t.same((await fetchBundle(spiffe(first.origin), deps({ bundleOf }), never)).bundle, published, 'the same ID may serve it')
    first.answer = redirect(target.origin)
    await t.rejects(fetchBundle(spiffe(first.origin), deps({ bundleOf }), never), { code: 'bundle_endpoint_untrusted' }, 'FED-13')
  })
})

t.test('a hostile partner', async t => {
  await using partner = await startFakePartner(certificate, document(text))
  const keys = (count: number) => `{"keys":[${Array.from({ length: count }, () => '{}').join()}]}`
  const sent = (bytes: string | Uint8Array, headers = {}): Answer => document(bytes, headers)
  const cases: Readonly<Record<string, readonly [answer: Answer, code: string, requirement?: string]>> = {
    'names twice (TS-03)': [sent('{"keys":[],"keys":[]}'), 'fetched_bundle_malformed', 'TS-03'],
    'a name twice deep down': [sent('{"keys":[{"use":"x509-svid","use":"jwt-svid"}]}'), 'fetched_bundle_malformed', 'TS-03'],
    'no JSON': [sent('<html>'), 'fetched_bundle_malformed', 'TDB-01'],
    'nothing at all': [sent(''), 'fetched_bundle_malformed', 'TDB-01'],
    'no object': [sent('[]'), 'fetched_bundle_malformed', 'TDB-01'],
    'no keys': [sent('{"spiffe_sequence":1}'), 'fetched_bundle_malformed', 'TDB-10'],
    'a sequence that is no integer': [sent('{"keys":[],"spiffe_sequence":1.5}'), 'fetched_bundle_malformed', 'TDB-06'],
    'a hint that is no integer': [sent('{"keys":[],"spiffe_refresh_hint":"60"}'), 'fetched_bundle_malformed', 'TDB-08'],
    'no UTF-8': [sent(Buffer.from([0x7b, 0xff, 0x7d])), 'fetched_bundle_malformed', 'TDB-01'],
    'a deep nest': [sent('['.repeat(100_000)), 'fetched_bundle_malformed', 'TDB-01'],
    'a page': [sent(text, { 'content-type': 'text/html; charset=utf-8' }), 'fetched_bundle_malformed', 'FED-17'],
    'something packed': [sent(text, { 'content-encoding': 'gzip' }), 'fetched_bundle_malformed', 'FED-17'],
    'a great many keys': [sent(keys(257)), 'fetched_bundle_too_large'],
    'a length that is too great': [sent('{}', { 'content-length': '1048577' }), 'fetched_bundle_too_large'],
    'half of it': [(_request, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('{"keys":')
      setImmediate(() => response.socket?.destroy())
    }, 'bundle_endpoint_unreachable'],
    'headers without end': [(_request, response) => {
      response.writeHead(200, { 'x-long': 'x'.repeat(20_000) }).end('{}')
    }, 'bundle_endpoint_unreachable'],
    'no HTTP': [(request) => { request.socket.end('SSH-2.0\r\n\r\n') }, 'bundle_endpoint_unreachable'],
    'another protocol': [(request) => {
      request.socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n')
    }, 'bundle_endpoint_unreachable'],
    'no answer': [(request) => { request.socket.destroy() }, 'bundle_endpoint_unreachable'],
    'an error': [(_request, response) => { response.writeHead(500).end(text) }, 'bundle_endpoint_unreachable'],
    'a part': [(_request, response) => { response.writeHead(206).end(text) }, 'bundle_endpoint_unreachable']
  }
  for (const [what, [answer, code, requirement]] of Object.entries(cases)) {
    partner.answer = answer
    const expected = { code, ...requirement === undefined ? {} : { requirement } }
    await t.rejects(fetchBundle(web(partner.origin), deps(), never), expected, `sends ${what}`)
  }

  await t.test('that asks for patience is heard', async t => {
    partner.answer = (_request, response) => { response.writeHead(429, { 'retry-after': '90' }).end() }
    const expected = { code: 'bundle_endpoint_unreachable', retryAfterMs: 90_000, details: { status: 429 } }
    await t.rejects(fetchBundle(web(partner.origin), deps(), never), expected)
  })

  await t.test('FED-17 what is said to be JSON, or to be any file, is read', async t => {
    const types = ['application/json', 'Application/JSON; charset=utf-8', 'application/jwk-set+json', 'text/plain', 'binary/octet-stream']
    for (const type of types) {
      partner.answer = document(text, { 'content-type': type })
      t.same((await fetchBundle(web(partner.origin), deps(), never)).bundle, published, type)
    }
    partner.answer = (_request, response) => { response.end(text) }
    t.same((await fetchBundle(web(partner.origin), deps(), never)).bundle, published, 'and what is said to be nothing')
  })

  await t.test('TDB-11 TDB-12 TDB-13 keys that cannot be used are left out, all of them if need be', async t => {
    const useless = '{"use":"x509-svid","kty":"OKP"},{"kty":"EC"},{"use":"X509-SVID","kty":"EC"}'
    partner.answer = document(text.replace('"keys":[', `"keys":[${useless},`))
    const { bundle, skipped } = await fetchBundle(web(partner.origin), deps(), never)
    t.same(bundle, published)
    t.equal(skipped.length, 3)
    partner.answer = document(keys(256))
    const empty = await fetchBundle(web(partner.origin), deps(), never)
    t.same([empty.bundle.x509Authorities, empty.bundle.jwtAuthorities], [[], []])
    t.equal(empty.skipped.length, 10, 'the first few notes are enough')
  })

  await t.test('a giant is cut off, and never held whole', async t => {
    let written = 0
    const cut = Promise.withResolvers<void>()
    partner.answer = (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      const block = Buffer.alloc(65_536, 0x20)
      const more = () => {
        while (!response.destroyed && response.write(block)) written += block.length
        if (!response.destroyed) response.once('drain', more)
      }
      response.once('close', () => cut.resolve())
      more()
    }
    await t.rejects(fetchBundle(web(partner.origin), deps(), never), { code: 'fetched_bundle_too_large' })
    await cut.promise
    t.ok(written < 32 * 1_048_576, `what the kernel buffers and no more: ${written} bytes`)
  })

  await t.test('a slow one is given up', async t => {
    const begins: Array<readonly [string, Answer, number, string]> = [
      ['says nothing', () => undefined, 10_000, 'no answer came within 10000 ms'],
      ['stops after the first line', request => { request.socket.write('HTTP/1.1 200 OK\r\n') }, 10_000, 'no answer came'],
      ['stops in the document', (_request, response) => {
        response.writeHead(200, { 'content-type': 'application/json' })
        response.write('{"keys":')
      }, 30_000, 'nothing whole came within 30000 ms']
    ]
    for (const [what, answer, afterMs, rule] of begins) {
      const clock = new ManualClock(new Date())
      let begun = Promise.withResolvers<void>()
      partner.answer = (request, response) => {
        answer(request, response)
        begun.resolve()
      }
      const outcome = t.rejects(fetchBundle(web(partner.origin), deps({ clock }), never),
        { code: 'bundle_endpoint_slow', message: new RegExp(rule) }, what)
      await begun.promise
      begun = Promise.withResolvers()
      await clock.advance(afterMs)
      await outcome
      t.equal(clock.sleeping, 0, 'and nothing waits any longer')
    }
  })

  await t.test('one that does not even begin TLS is given up', async t => {
    const silent = createServer(socket => socket.resume().on('error', () => undefined)).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as { port: number }
    const clock = new ManualClock(new Date())
    const accepted = once(silent, 'connection')
    const outcome = t.rejects(fetchBundle(web(`https://127.0.0.1:${port}`), deps({ clock }), never), { code: 'bundle_endpoint_slow' })
    await accepted
    await clock.advance(10_000)
    await outcome
    silent.close()
    await once(silent, 'close')
    await t.rejects(fetchBundle(web(`https://127.0.0.1:${port}`), deps(), never), { code: 'bundle_endpoint_unreachable' }, 'nor is there anybody')
  })

  await t.test('whoever stops a fetch hears no more of it', async t => {
    const stop = new AbortController()
    partner.answer = () => stop.abort(new Error('no longer wanted'))
    await t.rejects(fetchBundle(web(partner.origin), deps(), stop.signal), { message: 'no longer wanted' })
    await t.rejects(fetchBundle(web(partner.origin), deps(), stop.signal), { message: 'no longer wanted' })
  })
})

t.test('a URL is shown without its query, which may hold a key', async t => {
  await using partner = await startFakePartner(certificate, (_request, response) => { response.writeHead(404).end() })
  const error = await fetchBundle(web(`${partner.origin}/b?key=secret`), deps(), never).catch((thrown: unknown) => thrown as Error)
  t.equal((error as Error).message, `${partner.origin}/b: it answers with status 404`)
})

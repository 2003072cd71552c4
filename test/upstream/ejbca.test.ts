import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { checkMinted } from '../../src/ca/check-minted.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { ejbcaUpstreamPlugin as plugin } from '../../src/upstream/ejbca/ejbca-plugin.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { createWebCa } from '../federation/web-ca.ts'
import { createTestCa, pemOf } from '../fakes/ca-files.ts'
import { EjbcaPeer } from '../fakes/ejbca.ts'
import { freePort } from '../fakes/free-port.ts'
import { csrOf, key, order } from './ca-order.ts'

const { signal } = new AbortController()
const trustDomain = parseTrustDomain('example.org')
const web = await createWebCa()
const root = await createTestCa()
const issuer = await createTestCa({ issuer: root })

async function start (t: Test) {
  const peer = await EjbcaPeer.start(web, [issuer, root])
  t.teardown(() => peer[Symbol.asyncDispose]())
  const folder = t.testdir()
  const put = async (name: string, text: string) => {
    await writeFile(join(folder, name), text)
    return join(folder, name)
  }
  const client = await web.certify()
  const config = {
    hostname: peer.hostname, ca_cert_path: await put('ca.pem', web.root), client_cert_path: await put('client.crt', client.cert),
    client_cert_key_path: await put('client.key', client.key), ca_name: 'Company-CA', end_entity_profile_name: 'ee',
    certificate_profile_name: 'sub-ca'
  }
  const open = (more: object = {}) =>
    plugin.start(plugin.config.parse({ ...config, ...more }), { trustDomain, clock: systemClock, log: silentLogger }, signal)
  return { peer, put, config, open }
}

void t.test('a CA that EJBCA signs', async t => {
  const { peer, open } = await start(t)
  const upstream = await open({ account_binding_id: '42' })
  for (const format of ['DER', 'PEM'] as const) {
    peer.format = format
    const minted = await upstream.mintX509Ca(order, signal)
    const { certificate } = await checkMinted(minted, { key, trustDomain, clock: systemClock })
    t.strictSame(certificate.uriSans, ['spiffe://example.org'], `${format}: ID-16`)
    t.same(minted.chain[1], issuer.certificate.raw)
    t.same(minted.roots, [{ certificate: root.certificate.raw, tainted: false }])
  }
  const [first, second] = peer.asked
  t.match(first, {
    certificate_request: /BEGIN CERTIFICATE REQUEST/, certificate_authority_name: 'Company-CA', certificate_profile_name: 'sub-ca',
    end_entity_profile_name: 'ee', include_chain: true, account_binding_id: '42', username: 'spiffe://example.org'
  })
  t.not(first?.['password'], second?.['password'], 'a password for each')
})

void t.test('the end entity\'s name', async t => {
  const { peer, open } = await start(t)
  const named = { ...order, csr: await csrOf('Example CA') }
  const rows = [
    [undefined, order, 'spiffe://example.org'], [undefined, named, 'Example CA'], ['', named, 'Example CA'], ['cn', named, 'Example CA'],
    ['uri', named, 'spiffe://example.org'], ['servers', named, 'servers']
  ] as const
  for (const [end_entity_name, what, expected] of rows) {
    await (await open({ end_entity_name })).mintX509Ca(what, signal)
    t.equal(peer.asked.at(-1)?.['username'], expected, `${end_entity_name}`)
  }
  for (const end_entity_name of ['cn', 'dns', 'ip']) {
    await t.rejects((await open({ end_entity_name })).mintX509Ca(order, signal), { code: 'config_invalid' }, end_entity_name)
  }
})

void t.test('answers that are none, or no', async t => {
  const { peer, open, config } = await start(t)
  const upstream = await open()
  const text = (pem: string) => Buffer.from(pem).toString('base64')
  type Fault = NonNullable<typeof peer.fault>
  const rows: ReadonlyArray<readonly [Fault, string, RegExp]> = [
    [() => [403, { error_code: 403, error_message: 'not authorized\u0007to it' }], 'upstream_refused', /403: not authorized to it/],
    [() => [400, 'no JSON'], 'upstream_refused', /status 400$/],
    [() => [503, {}], 'upstream_unavailable', /status 503/],
    [() => [429, {}], 'upstream_unavailable', /status 429/],
    [() => [302, {}], 'upstream_refused', /status 302/],
    [() => [201, '[]'], 'upstream_invalid', /no JSON object/],
    [() => [201, ' '.repeat(1_100_000)], 'upstream_invalid', /more than 1048576 bytes/],
    [enrolled => [201, { ...enrolled, response_format: 'JKS' }], 'upstream_invalid', /"JKS"/],
    [enrolled => [201, { ...enrolled, certificate_chain: undefined }], 'upstream_invalid', /no certificate_chain/],
    [enrolled => [201, { ...enrolled, certificate_chain: [] }], 'upstream_invalid', /no certificate above/],
    [enrolled => [201, { ...enrolled, certificate_chain: [enrolled['certificate']] }], 'upstream_invalid', /no certificate above/],
    [enrolled => [201, { ...enrolled, certificate_chain: Array.from({ length: 17 }, () => '') }], 'upstream_invalid', /more than 16/],
    [enrolled => [201, { ...enrolled, certificate_chain: ['!'] }], 'upstream_invalid', /certificate 1 of/],
    [enrolled => [201, { ...enrolled, certificate: 7 }], 'upstream_invalid', /no text/],
    [enrolled => [201, { ...enrolled, response_format: 'PEM', certificate: text(pemOf(issuer, root)) }], 'upstream_invalid', /than one/]
  ]
  for (const [fault, code, message] of rows) {
    peer.fault = fault
    await t.rejects(upstream.mintX509Ca(order, signal), { code, message }, String(message))
  }
  peer.fault = undefined
  await t.rejects((await open({ ca_name: 'other' })).mintX509Ca(order, signal), { code: 'upstream_refused', message: /Unknown cert/ })
  const elsewhere = await open({ hostname: `127.0.0.1:${await freePort()}` })
  await t.rejects(elsewhere.mintX509Ca(order, signal), { code: 'upstream_unavailable', message: /ECONNREFUSED/ })
  await t.rejects((await open({ ca_cert_path: config.client_cert_path })).mintX509Ca(order, signal), { code: 'upstream_unavailable' })
  await t.rejects(upstream.mintX509Ca(order, AbortSignal.abort()), { code: 'upstream_unavailable' })
})

void t.test('the files are read for each CA; they must be there at the start', async t => {
  const { put, config, open } = await start(t)
  const upstream = await open()
  const stranger = await (await createWebCa()).certify()
  await put('client.crt', stranger.cert)
  await put('client.key', stranger.key)
  await t.rejects(upstream.mintX509Ca(order, signal), { code: 'upstream_refused', message: /no client certificate/ })
  const next = await web.certify()
  await put('client.crt', next.cert)
  await put('client.key', next.key)
  t.ok(await upstream.mintX509Ca(order, signal))
  await rm(config.client_cert_key_path)
  await t.rejects(upstream.mintX509Ca(order, signal), { code: 'file_unusable' })
  await t.rejects(open(), { code: 'file_unusable' })
  await put('client.crt', encodePem('CERTIFICATE', root.certificate.raw))
  await put('client.key', next.key)
  await t.rejects(upstream.mintX509Ca(order, signal), { code: 'file_unusable', message: /key values mismatch/ })

  const missing = /client_cert_path is missing, and EJBCA_CLIENT_CERT_PATH is not set/
  await t.rejects(open({ client_cert_path: '' }), { code: 'config_invalid', message: missing })
  for (const bad of [{ hostname: 'https://x' }, { hostname: 'x/y' }, { ca_name: '' }, { end_entity_profile_name: undefined }, { more: 1 }]) {
    t.throws(() => plugin.config.parse({ ...config, ...bad }), JSON.stringify(bad))
  }
})

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { checkMinted } from '../../src/ca/check-minted.ts'
import type { UpstreamTrust } from '../../src/ca/upstream-authority.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { diskUpstreamPlugin } from '../../src/upstream/disk/disk-upstream-plugin.ts'
import { encodeCaSubject } from '../../src/x509/ca-certificate.ts'
import { signCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { prepareLeafIssuer } from '../../src/x509/leaf-issuer.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import { idOf } from '../fakes/entries.ts'
import { makeTestKey } from '../fakes/authority.ts'
import { createTestCa, keyPemOf, pemOf, writeCaFiles, type CaFiles } from '../fakes/ca-files.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock, settle } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'

const trustDomain = parseTrustDomain('example.org')
const signal = new AbortController().signal

async function openFolder () {
  const folder = await mkdtemp(join(tmpdir(), 'assay-upstream-'))
  return { folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) }
}

function start (files: CaFiles, clock = new ManualClock(new Date()), log = silentLogger) {
  return diskUpstreamPlugin.start(diskUpstreamPlugin.config.parse(files), { trustDomain, clock, log }, signal)
}

const key = signerOf(makeTestKey())
const csrFor = (uri: string) => signCertificateRequest(key, {
  subjectDer: encodeCaSubject({ country: ['NL'], organization: ['Example'] }, Buffer.of(7)), uriSans: [uri]
})
const csr = await csrFor('spiffe://example.org')

await t.test('a root in files signs, and the request says the subject', async t => {
  await using place = await openFolder()
  const root = await createTestCa()
  const clock = new ManualClock(new Date())
  await using upstream = await start(await writeCaFiles(place.folder, [root]), clock)
  const { chain, roots } = await upstream.mintX509Ca({ csr, ttlSeconds: 3600 }, signal)
  t.equal(chain.length, 1, 'a root is in no chain')
  t.same(roots, [{ certificate: root.certificate.raw, tainted: false }])
  const ca = parseCertificate(chain[0] as Uint8Array)
  t.same(ca.uriSans, ['spiffe://example.org'], 'ID-16')
  t.ok(ca.isCa && ca.keyUsage?.has('keyCertSign'), 'X509-07')
  t.equal(ca.pathLength, undefined, 'CAs below it are not ruled out')
  t.match(Buffer.from(ca.subjectDer).toString('latin1'), /Example/)
  t.ok(Math.abs(ca.notAfter.getTime() - clock.now().getTime() - 3_600_000) < 5_000, 'the ttl that was asked for')
  t.ok((await checkMinted({ chain, roots }, { key, trustDomain, clock: systemClock })).notAfter.getTime() === ca.notAfter.getTime())
})

await t.test('an intermediate in files needs its roots, and never signs beyond its own end', async t => {
  await using place = await openFolder()
  const root = await createTestCa()
  const middle = await createTestCa({ issuer: root })
  const notAfter = new Date(Math.floor(Date.now() / 1000) * 1000 + 600_000)
  const lower = await createTestCa({ issuer: middle, notAfter })
  await using upstream = await start(await writeCaFiles(place.folder, [lower, middle, root], [root]))
  const minted = await upstream.mintX509Ca({ csr, ttlSeconds: 86_400 }, signal)
  t.same(minted.chain.slice(1), [lower.certificate.raw, middle.certificate.raw], 'those between, without the root')
  t.equal(parseCertificate(minted.chain[0] as Uint8Array).notAfter.getTime(), notAfter.getTime())
  t.ok(await checkMinted(minted, { key, trustDomain, clock: systemClock }))
  await t.rejects(start(await writeCaFiles(place.folder, [lower, middle])), { code: 'upstream_invalid', message: /bundle_file_path/ })
})

await t.test('all keys that sign here sign there', async t => {
  for (const keyType of ['ec-p384', 'rsa-2048'] as const) {
    await using place = await openFolder()
    const root = await createTestCa({ keyType })
    await using upstream = await start(await writeCaFiles(place.folder, [root]))
    t.ok(await checkMinted(await upstream.mintX509Ca({ csr, ttlSeconds: 3600 }, signal), { key, trustDomain, clock: systemClock }), keyType)
  }
  await using place = await openFolder()
  const root = await createTestCa()
  const files = await writeCaFiles(place.folder, [root])
  await writeFile(files.key_file_path, root.key.export({ format: 'pem', type: 'sec1' }))
  t.ok(await start(files), 'a key in OpenSSL\'s older form')
})

await t.test('files that are of no use are refused at the start, and at each order', async t => {
  const root = await createTestCa()
  const other = await createTestCa()
  const half = (text: string) => text.slice(0, text.length / 2)
  const leafKey = makeTestKey()
  const leaf = await prepareLeafIssuer(root.certificate, root.signer).issue({
    id: idOf('/x'), publicKey: signerOf(leafKey).publicKey, dnsNames: [], notBefore: new Date(), notAfter: new Date(Date.now() + 60_000)
  })
  const encrypted = root.key.export({ format: 'pem', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase: 'secret' }).toString()
  const faults: Record<string, { cert?: string, key?: string, bundle?: string, says: RegExp }> = {
    'the key is another one\'s': { key: keyPemOf(other), says: /is not the key of the first certificate/ },
    'the certificate is half written': { cert: half(pemOf(root)), says: /no end/ },
    'the key is half written': { key: half(keyPemOf(root)), says: /no private key in PEM that is whole/ },
    'the bundle is half written': { bundle: half(pemOf(root)), says: /no end/ },
    'the key is encrypted': { key: encrypted, says: /not encrypted/ },
    'there is no certificate': { cert: '', says: /no certificate/ },
    'the bundle is empty': { bundle: '\n', says: /no certificate/ },
    'the certificate is no CA\'s': {
      cert: encodePem('CERTIFICATE', leaf), key: leafKey.export({ format: 'pem', type: 'pkcs8' }).toString(), says: /no CA/
    }
  }
  for (const [title, { cert, key, bundle, says }] of Object.entries(faults)) {
    await using place = await openFolder()
    const files = await writeCaFiles(place.folder, [root], [root])
    await using upstream = await start(files)
    if (cert !== undefined) await writeFile(files.cert_file_path, cert)
    if (key !== undefined) await writeFile(files.key_file_path, key)
    if (bundle !== undefined) await writeFile(files.bundle_file_path ?? '', bundle)
    await t.rejects(start(files), { code: 'upstream_invalid', message: says }, `${title}, at the start`)
    const refusal = await upstream.mintX509Ca({ csr, ttlSeconds: 60 }, signal).catch((error: Error) => error)
    t.match(refusal, { code: 'upstream_invalid', message: says }, `${title}, at an order`)
    t.notMatch((refusal as Error).message, /MII|BEGIN/, 'no content is told')
    await writeCaFiles(place.folder, [root], [root])
    t.ok(await upstream.mintX509Ca({ csr, ttlSeconds: 60 }, signal), 'mended, it signs again')
  }
  await using place = await openFolder()
  const files = await writeCaFiles(place.folder, [root])
  await t.rejects(start({ ...files, key_file_path: join(place.folder, 'none') }), { code: 'file_unusable' })
  await t.rejects(start({ ...files, key_file_path: place.folder }), { code: 'file_unusable' }, 'a folder')
  await writeFile(files.cert_file_path, 'x'.repeat(1024 * 1024 + 1))
  await t.rejects(start(files), { code: 'file_unusable', message: /longer/ })
})

await t.test('an expired CA signs nothing, and says since when', async t => {
  await using place = await openFolder()
  const root = await createTestCa({ notAfter: new Date(Date.now() - 1000) })
  await using upstream = await start(await writeCaFiles(place.folder, [root]))
  await t.rejects(upstream.mintX509Ca({ csr, ttlSeconds: 60 }, signal), { code: 'upstream_invalid', message: /was valid until/ })
})

await t.test('only a CA of the own trust domain is signed', async t => {
  await using place = await openFolder()
  await using upstream = await start(await writeCaFiles(place.folder, [await createTestCa()]))
  for (const uri of ['spiffe://other.org', 'spiffe://example.org/workload']) {
    await t.rejects(upstream.mintX509Ca({ csr: await csrFor(uri), ttlSeconds: 60 }, signal), { code: 'csr_malformed' }, uri)
  }
  await t.rejects(upstream.mintX509Ca({ csr: csr.slice(0, -1), ttlSeconds: 60 }, signal), { code: 'csr_malformed' })
})

await t.test('new files count from the next order, new roots at once; what is half written changes nothing', async t => {
  await using place = await openFolder()
  const [first, second] = [await createTestCa(), await createTestCa()]
  const files = await writeCaFiles(place.folder, [first], [first])
  const clock = new ManualClock(new Date())
  const { log, lines } = capturedLog()
  await using upstream = await start(files, clock, log)
  const stop = new AbortController()
  const seen: UpstreamTrust[] = []
  const watching = (async () => { for await (const trust of upstream.watch?.(stop.signal) ?? []) seen.push(trust) })().catch(() => {})
  const look = async () => {
    await eventually('it waits for the next look', () => clock.sleeping > 0, 60_000)
    await clock.advance(5_000)
    await eventually('it has looked', () => clock.sleeping > 0, 60_000)
    await settle()
  }
  await look()
  t.equal(seen.length, 1, 'told once while nothing changes')
  const whole = pemOf(first, second)
  await writeFile(files.bundle_file_path ?? '', whole.slice(0, -40))
  await look()
  await look()
  t.equal(seen.length, 1, 'a bundle that is half written')
  t.equal(lines.filter(({ level }) => level === 'warn').length, 1, 'told once')
  await writeFile(files.bundle_file_path ?? '', whole)
  await look()
  t.same(seen.at(-1)?.x509Authorities.map(({ certificate }) => certificate), [first.certificate.raw, second.certificate.raw])
  t.equal(seen.at(-1)?.complete, false, 'what is gone from a file is not revoked')
  await writeCaFiles(place.folder, [second], [first, second])
  const { chain } = await upstream.mintX509Ca({ csr, ttlSeconds: 60 }, signal)
  t.same(parseCertificate(chain[0] as Uint8Array).authorityKeyId, second.certificate.subjectKeyId)
  stop.abort()
  await watching
})

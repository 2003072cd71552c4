import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { writeSignedBundle } from '../../src/federation/signed-bundle/write-signed-bundle.ts'
import { signJws } from '../../src/jwt/sign-jws.ts'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseBundleEndpointUrl } from '../../src/spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { motoMissing, startMoto } from '../fakes/moto.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { noFederation, startTestServer, type TestServer } from '../fakes/server.ts'
import { createWebCa } from '../federation/web-ca.ts'

const skip = motoMissing()
if (skip !== false) t.comment(`skipped: ${skip}`)

const partnerDomain = parseTrustDomain('partner.test')
const folder = mkdtempSync(join(tmpdir(), 'assay-copies-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const file = (name: string, content: string) => {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}

const sign = async (server: TestServer) => await runAssay(['bundle', 'sign', '-socketPath', server.config.socketPath])
const ownBundle = async (server: TestServer) => decodeBundle(await server.admin.client(bundleService).getBundle({}))
const stored = async (server: TestServer) =>
  decodeBundle(await server.admin.client(bundleService).getFederatedBundle({ trustDomain: 'partner.test' }))

interface Shown { readonly supplied_by: string, readonly sources: ReadonlyArray<{ readonly last_error?: { readonly code: string } }> }

async function following (server: TestServer): Promise<Shown | undefined> {
  const { stdout } = await runAssay(['federation', 'status', '-socketPath', server.config.socketPath, '-output', 'json'])
  return (JSON.parse(stdout) as { partners: Array<{ following?: Shown }> }).partners[0]?.following
}

void t.test('a partner whose endpoint is gone is followed by what it signed, in an object store', { skip }, async t => {
  const ca = await createWebCa()
  const { cert, key } = await ca.certify()
  const webCaPath = file('ca.pem', ca.root)
  await using moto = await startMoto({ certificatePath: file('cert.pem', cert), keyPath: file('key.pem', key), ca: ca.root })
  const url = `${moto.endpoint}/bundles/partner.jws`
  const put = (to: string, body = '') => new Promise<number | undefined>((resolve, reject) => {
    const authorization = 'AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0'
    const headers = { authorization, 'x-amz-acl': 'public-read', 'content-length': body.length }
    request(to, { method: 'PUT', ca: ca.root, headers }, response => {
      response.resume().on('end', () => resolve(response.statusCode))
    }).on('error', reject).end(body)
  })
  t.equal(await put(`${moto.endpoint}/bundles`), 200)

  await using them = await startTestServer({ config: { trustDomain: partnerDomain } })
  const plain = join(folder, 'partner.json')
  const copies = new Map([[partnerDomain, [
    { kind: 'endpoint', url: parseBundleEndpointUrl(url), profile: { kind: 'https_web' }, signed: true },
    { kind: 'file', path: plain, signed: false }
  ] as const]])
  await using us = await startTestServer({ config: { federation: { ...noFederation, webCaPath, leastRefreshMs: 3_600_000, copies } } })
  const relations = us.admin.client(trustDomainService)
  const refresh = () => relations.refreshBundle({ trustDomain: 'partner.test' })
  const dead = `https://127.0.0.1:${await freePort()}/`
  const first = await ownBundle(them)
  await relations.batchCreateFederationRelationship({
    federationRelationships: [{
      trustDomain: 'partner.test', bundleEndpointUrl: dead, httpsSpiffe: { endpointSpiffeId: 'spiffe://partner.test/spire/server' },
      trustDomainBundle: await them.admin.client(bundleService).getBundle({})
    }]
  })
  await t.rejects(refresh(), { code: 'bundle_endpoint_unreachable' }, 'there is nothing anywhere yet')

  const before = await sign(them)
  t.match(before, { code: 0, stderr: /^Valid until / })
  await them.admin.client(localAuthorityService).prepareX509Authority({})
  const rotated = await ownBundle(them)
  t.equal(rotated.x509Authorities.length, 2)
  const { stdout: newest } = await sign(them)
  t.equal(await put(url, newest.trim()), 200)
  await refresh()
  t.same((await stored(us)).x509Authorities, rotated.x509Authorities, 'its new root has come')
  await eventually('who is in use to be told', async () => (await following(us))?.supplied_by === url, 60_000)
  t.match(await following(us), { sources: [{ last_error: { code: 'bundle_endpoint_unreachable' } }, {}, {}] })
  const text = (await runAssay(['federation', 'status', '-socketPath', us.config.socketPath])).stdout
  t.match(text, new RegExp([
    `Last success {14}: \\S+ ago \\(.*\\), from ${url}`, `Source in use {13}: copy 1 of 2: ${url}`, `Copy 1 {20}: ${url}, .* ago .*`,
    `Copy 2 {20}: ${plain}, has given nothing`
  ].join('\n')))
  await refresh()
  t.match(await following(us), { supplied_by: url }, 'the same again is fine: the store says that nothing changed')

  const namesake = await createTestAuthority('partner.test', { jwtKeyId: first.jwtAuthorities[0]?.keyId as string })
  const forged: Bundle = { ...namesake.bundle, sequenceNumber: 1_000n }
  const byStranger = await writeSignedBundle(forged, new Date(Date.now() + 3_600_000),
    (payload, typ) => signJws(payload, typ, namesake.jwtKey))
  const hostile: Readonly<Record<string, readonly [body: string, code: string]>> = {
    'what a stranger signed': [byStranger, 'fetched_bundle_untrusted'],
    'a bundle that nobody signed': [formatBundleDocument(forged), 'fetched_bundle_malformed'],
    'what the partner signed before': [before.stdout.trim(), 'fetched_bundle_older'],
    'a giant': [' '.repeat(1_100_000), 'fetched_bundle_too_large']
  }
  for (const [what, [body, code]] of Object.entries(hostile)) {
    t.equal(await put(url, body), 200)
    await t.rejects(refresh(), { code: 'bundle_endpoint_unreachable' }, what)
    await eventually(`${what}: ${code}`, async () => (await following(us))?.sources[1]?.last_error?.code === code, 60_000)
    t.same((await stored(us)).x509Authorities, rotated.x509Authorities, `${what}: the last good bundle stays`)
  }
  await them.admin.client(localAuthorityService).prepareX509Authority({}).catch(() => undefined)
  const next = { ...await ownBundle(them), sequenceNumber: (rotated.sequenceNumber as bigint) + 1n, refreshHintSeconds: 60 }
  file('partner.json', formatBundleDocument(next))
  await refresh()
  await eventually('the next copy, as the one before it is refused', async () => (await following(us))?.supplied_by === plain, 60_000)
  t.equal((await stored(us)).refreshHintSeconds, 60)
})

import { createHash, createHmac } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import { request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SignatureV4 } from '@smithy/signature-v4'
import { STSClient } from '@aws-sdk/client-sts'
import t, { type Test } from 'tap'
import { parseBundleEndpointUrl } from '../../src/spiffe/bundle-endpoint.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { motoMissing, startMoto } from '../fakes/moto.ts'
import { noFederation, startTestServer, testPlugins, type TestServer } from '../fakes/server.ts'
import { createWebCa } from '../federation/web-ca.ts'

const partnerDomain = parseTrustDomain('partner.test')
const folder = mkdtempSync(join(tmpdir(), 'assay-publish-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const within = 60_000
t.setTimeout(600_000)

/** @param publishers `plugin_data` by name */
const startPublisher = (publishers: Readonly<Record<string, object>>) => startTestServer({ config: {
  trustDomain: partnerDomain, plugins: testPlugins({
    BundlePublisher: Object.fromEntries(Object.entries(publishers).map(([name, data]) => [name, { plugin_data: data }]))
  })
} })
const ownBundle = async (server: TestServer) => decodeBundle(await server.admin.client(bundleService).getBundle({}))
const stored = async (server: TestServer) =>
  decodeBundle(await server.admin.client(bundleService).getFederatedBundle({ trustDomain: 'partner.test' }))

/** Has `us` follow `them`, whose endpoint is gone. */
async function relate (us: TestServer, them: TestServer): Promise<() => Promise<unknown>> {
  const relations = us.admin.client(trustDomainService)
  await relations.batchCreateFederationRelationship({
    federationRelationships: [{
      trustDomain: 'partner.test', bundleEndpointUrl: `https://127.0.0.1:${await freePort()}/`,
      httpsSpiffe: { endpointSpiffeId: 'spiffe://partner.test/spire/server' },
      trustDomainBundle: await them.admin.client(bundleService).getBundle({})
    }]
  })
  return () => relations.refreshBundle({ trustDomain: 'partner.test' })
}

/** Until a root that was prepared there has come here. */
async function followsRoots (t: Test, us: TestServer, them: TestServer, refresh: () => Promise<unknown>, what: string): Promise<void> {
  await them.admin.client(localAuthorityService).prepareX509Authority({})
  const { x509Authorities } = await ownBundle(them)
  t.equal(x509Authorities.length, 2)
  await eventually(what, async () => {
    await refresh().catch(() => undefined)
    return (await stored(us)).x509Authorities.length === 2
  }, within)
  t.same((await stored(us)).x509Authorities, x509Authorities, what)
}

void t.test('a server writes its signed bundle to a file, which brings its next root to a partner', async t => {
  const signed = join(folder, 'signed', 'partner.jws')
  await using them = await startPublisher({ file: { path: signed, format: 'signed' } })
  const copies = new Map([[partnerDomain, [{ kind: 'file', path: signed, signed: true }] as const]])
  await using us = await startTestServer({ config: { federation: { ...noFederation, leastRefreshMs: 3_600_000, copies } } })
  const refresh = await relate(us, them)
  await t.rejects(refresh(), { code: 'bundle_endpoint_unreachable' }, 'there is no folder to write to')
  await mkdir(join(folder, 'signed'))
  await followsRoots(t, us, them, refresh, 'the new root comes, once there is a folder')
  t.equal(statSync(signed).mode & 0o777, 0o644)
})

const skip = motoMissing()
if (skip !== false) t.comment(`an object store: skipped: ${skip}`)

const region = 'eu-central-1'
const secretAccessKey = 'hush-hush'
const sha256 = (data: string) => createHash('sha256').update(data).digest('hex')
const hmac = (key: string | Buffer, data: string) => createHmac('sha256', key).update(data).digest()

/** What the signature must be, worked out from what arrived as S3 does (Signature Version 4). */
function expectedSignature (method: string, path: string, headers: IncomingHttpHeaders, body: string): string {
  const { 1: day = '', 2: names = '' } = /Credential=AKIDEXAMPLE\/(\d{8})\/.*SignedHeaders=([^,]+),/.exec(headers.authorization ?? '') ?? []
  const lines = names.split(';').map(name => `${name}:${String(headers[name]).trim()}\n`).join('')
  const canonical = [method, path, '', lines, names, sha256(body)].join('\n')
  const scope = `${day}/${region}/s3/aws4_request`
  const text = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, sha256(canonical)].join('\n')
  const key = [day, region, 's3', 'aws4_request'].reduce<string | Buffer>(hmac, `AWS4${secretAccessKey}`)
  return hmac(key, text).toString('hex')
}

void t.test('the same to an object of a store, which a partner reads by a presigned URL', { skip }, async t => {
  const ca = await createWebCa()
  const { cert, key } = await ca.certify()
  const file = (name: string, content: string) => {
    writeFileSync(join(folder, name), content)
    return join(folder, name)
  }
  const webCaPath = file('ca.pem', ca.root)
  await using moto = await startMoto({ certificatePath: file('cert.pem', cert), keyPath: file('key.pem', key), ca: ca.root })
  const put = (path: string, body: string, headers: IncomingHttpHeaders) => new Promise<number>((resolve, reject) => {
    request(`${moto.endpoint}${path}`, { method: 'PUT', ca: ca.root, headers: { ...headers, 'content-length': Buffer.byteLength(body) } },
      response => { response.resume().on('end', () => resolve(response.statusCode ?? 0)) }).on('error', reject).end(body)
  })
  t.equal(await put('/bundles', '', { authorization: 'AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request' }), 200)

  // S3 in front of moto, which checks no signatures.
  const arrived: { readonly path: string, readonly right: boolean, readonly type: string | undefined }[] = []
  let fault: number | undefined
  const gate = createServer((asked, response) => {
    let body = ''
    asked.setEncoding('utf8').on('data', (part: string) => { body += part }).on('end', () => {
      const { method = '', url: path = '', headers } = asked
      const right = headers.authorization?.endsWith(`Signature=${expectedSignature(method, path, headers, body)}`) === true
      arrived.push({ path, right, type: headers['content-type'] })
      if (fault !== undefined) {
        response.writeHead(fault).end('<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>so it is</Message></Error>')
        return
      }
      const { host: _, connection: __, ...others } = headers
      void put(path, body, others).then(status => response.writeHead(status).end(), (error: Error) => response.destroy(error))
    })
  }).listen(0, '127.0.0.1')
  await once(gate, 'listening')
  t.teardown(() => gate.close())
  const endpoint = `http://127.0.0.1:${(gate.address() as AddressInfo).port}`

  const path = '/bundles/org%20one/partner%2Btest%27s%20%281%29.jws'
  fault = 403
  const credentials = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey }
  await using them = await startPublisher({ aws_s3: {
    region, endpoint, access_key_id: credentials.accessKeyId, secret_access_key: secretAccessKey, bucket: 'bundles',
    object_key: 'org one/partner+test\'s (1).jws', format: 'signed'
  } })
  await eventually('the store to have refused', () => arrived.length > 0, within)
  fault = undefined

  const { hostname, host, port } = new URL(moto.endpoint)
  const sts = new STSClient({ region, credentials })
  const presigner = new SignatureV4({ service: 's3', region, credentials, sha256: sts.config.sha256, uriEscapePath: false })
  const { query = {} } = await presigner.presign({
    method: 'GET', protocol: 'https:', hostname, port: Number(port), path, query: {}, headers: { host }
  }, { expiresIn: 3_600 })
  const url = `${moto.endpoint}${path}?${new URLSearchParams(query as Record<string, string>).toString()}`
  const copies = new Map([[partnerDomain, [
    { kind: 'endpoint', url: parseBundleEndpointUrl(url), profile: { kind: 'https_web' }, signed: true }
  ] as const]])
  await using us = await startTestServer({ config: { federation: { ...noFederation, webCaPath, leastRefreshMs: 3_600_000, copies } } })
  await followsRoots(t, us, them, await relate(us, them), 'the new root comes by way of the store')
  t.ok(arrived.length > 1)
  for (const one of arrived) t.strictSame(one, { path, right: true, type: 'application/jose' }, 'signed as S3 wants it')
})

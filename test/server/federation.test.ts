import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parseBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import { until } from '../fakes/envoy.ts'
import { noFederation, startTestServer, type TestServer } from '../fakes/server.ts'
import { createWebCa } from '../federation/web-ca.ts'

const partnerDomain = parseTrustDomain('partner.test')
const endpoint = { address: '127.0.0.1', port: 0, refreshHintSeconds: 1, profileNamed: true } as const
const bySpiffe = { ...noFederation, leastRefreshMs: 100, bundleEndpoint: { ...endpoint, profile: { kind: 'https_spiffe' } } } as const

const ownBundle = (server: TestServer) => server.admin.client(bundleService).getBundle({})
const rootsOf = async (server: TestServer, trustDomain: string) => {
  const { bundles } = await server.admin.client(bundleService).listFederatedBundles({})
  return bundles.find(bundle => bundle.trustDomain === trustDomain)?.x509Authorities.length ?? 0
}

async function prepareRoot (server: TestServer): Promise<void> { await server.admin.client(localAuthorityService).prepareX509Authority({}) }

/** `from` wants the bundle of `to`, and has what it is by some other way. */
async function relate (from: TestServer, to: TestServer, more: object = {}): Promise<void> {
  const { port } = await to.bundleEndpoint
  const { trustDomain } = to.config
  const { results } = await from.admin.client(trustDomainService).batchCreateFederationRelationship({
    federationRelationships: [{
      trustDomain, bundleEndpointUrl: `https://127.0.0.1:${port}/`, trustDomainBundle: await ownBundle(to),
      httpsSpiffe: { endpointSpiffeId: `spiffe://${trustDomain}/spire/server` }, ...more
    }]
  })
  t.equal(results[0]?.status?.code, 0, results[0]?.status?.message ?? '')
}

void t.test('two servers follow each other\'s roots by their SPIFFE IDs', async t => {
  await using us = await startTestServer({ config: { federation: bySpiffe } })
  await using them = await startTestServer({ config: { federation: bySpiffe, trustDomain: partnerDomain } })
  await relate(us, them)
  await relate(them, us)
  t.equal(await rootsOf(us, 'partner.test'), 1)
  await prepareRoot(them)
  await until('the partner\'s new root to come', async () => await rootsOf(us, 'partner.test') === 2, 60_000)
  await prepareRoot(us)
  await us.admin.client(trustDomainService).refreshBundle({ trustDomain: 'partner.test' })
  await until('our new root to reach the partner', async () => await rootsOf(them, 'example.org') === 2, 60_000)
  t.equal(await rootsOf(us, 'partner.test'), 2, 'TDB-01 each keeps its own')

  const relations = us.admin.client(trustDomainService)
  await relations.batchUpdateFederationRelationship({
    federationRelationships: [{ trustDomain: 'partner.test', httpsSpiffe: { endpointSpiffeId: 'spiffe://partner.test/other' } }],
    inputMask: { bundleEndpointProfile: true }
  })
  await t.rejects(relations.refreshBundle({ trustDomain: 'partner.test' }), { code: 'bundle_endpoint_untrusted' }, 'FED-27')
  t.equal(await rootsOf(us, 'partner.test'), 2, 'the last good bundle stays')
  await relations.batchDeleteFederationRelationship({ trustDomains: ['partner.test'] })
  await t.rejects(relations.refreshBundle({ trustDomain: 'partner.test' }), { code: 'federation_not_found' })
})

void t.test('an endpoint with a certificate of the web, and a partner that the configuration names', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'assay-federation-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const ca = await createWebCa()
  const { cert, key } = await ca.certify()
  const file = (name: string) => join(folder, name)
  const [certFilePath, keyFilePath, webCaPath] = [file('cert.pem'), file('key.pem'), file('ca.pem')]
  writeFileSync(certFilePath, cert)
  writeFileSync(keyFilePath, key)
  writeFileSync(webCaPath, ca.root)
  const files = { certFilePath, keyFilePath, fileSyncIntervalMs: 2_000 }
  await using them = await startTestServer({
    config: {
      trustDomain: partnerDomain,
      federation: { ...noFederation, bundleEndpoint: { ...endpoint, profile: { kind: 'https_web', files } } }
    }
  })
  const { port } = await them.bundleEndpoint
  const url = `https://127.0.0.1:${port}/`
  const served = await get(url, ca.root)
  const document = parseBundleDocument(served, partnerDomain)
  t.match(document, { refreshHintSeconds: 1, x509Authorities: [{}] }, 'FED-16 nobody has to prove anything')
  const partner = { trustDomain: partnerDomain, endpoint: { url, profile: { kind: 'https_web' } } } as never
  await using us = await startTestServer({
    config: { federation: { ...noFederation, webCaPath, leastRefreshMs: 100, partners: [partner] } }
  })
  await until('the bundle to come unasked', async () => await rootsOf(us, 'partner.test') === 1, 60_000)
  await prepareRoot(them)
  await us.admin.client(trustDomainService).refreshBundle({ trustDomain: 'partner.test' })
  t.equal(await rootsOf(us, 'partner.test'), 2)
})

async function get (url: string, ca: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  request(url, { ca }, response => {
    let body = ''
    response.setEncoding('utf8').on('data', (text: string) => { body += text }).on('end', () => resolve(body))
  }).on('error', reject).end()
  return await promise
}

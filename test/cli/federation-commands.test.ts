import t from 'tap'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'

const folder = await mkdtemp(join(tmpdir(), 'assay-federation-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))
const { bundle } = await createTestAuthority('partner.test')
const pem = bundle.x509Authorities.map(({ certificate }) => encodePem('CERTIFICATE', certificate)).join('')
const pemFile = join(folder, 'partner.pem')
await writeFile(pemFile, pem)

function on ({ config }: Pick<TestServer, 'config'>) {
  return (words: readonly string[], input?: string) =>
    runAssay([...words, '-socketPath', config.socketPath], input === undefined ? {} : { input })
}

const json = (text: string) => JSON.parse(text) as Record<string, unknown>
const endpoint = ['-bundleEndpointURL', 'https://10.0.0.1:8443/b', '-bundleEndpointProfile']
const byId = [...endpoint, 'https_spiffe', '-endpointSpiffeID', 'spiffe://partner.test/spire/server']
const block = `
Trust domain              : partner.test
Bundle endpoint URL       : https://10.0.0.1:8443/b
Bundle endpoint profile   : https_spiffe
Endpoint SPIFFE ID        : spiffe://partner.test/spire/server
`

void t.test('a relationship is created, listed, shown, updated, refreshed and deleted', async t => {
  await using server = await startTestServer()
  const assay = on(server)
  t.same(await assay(['federation', 'list']), { code: 0, stderr: '', stdout: 'Found 0 federation relationships\n' })
  const created = await assay(['federation', 'create', '-trustDomain', 'spiffe://partner.test', ...byId, '-trustDomainBundlePath', pemFile])
  t.same(created, { code: 0, stderr: '', stdout: block })
  t.same((await assay(['bundle', 'list', '-id', 'partner.test'])).stdout, pem, 'its bundle is stored')
  t.same(await assay(['federation', 'list']), { code: 0, stderr: '', stdout: `Found 1 federation relationship\n${block}` })
  t.same(await assay(['federation', 'show', '-trustDomain', 'partner.test']),
    { code: 0, stderr: '', stdout: `Found a federation relationship with trust domain partner.test:\n${block}` })
  t.match(json((await assay(['federation', 'show', '-trustDomain', 'partner.test', '-output', 'json'])).stdout), {
    trust_domain: 'partner.test', bundle_endpoint_url: 'https://10.0.0.1:8443/b', trust_domain_bundle: { trust_domain: 'partner.test' },
    https_spiffe: { endpoint_spiffe_id: 'spiffe://partner.test/spire/server' }
  })
  const moved = await assay(['federation', 'update', '-trustDomain', 'partner.test', '-bundleEndpointURL', 'https://new.test'])
  t.same(moved, { code: 0, stderr: '', stdout: block.replace('https://10.0.0.1:8443/b', 'https://new.test') }, 'what is not named stays')
  const partner = ['-trustDomain', 'partner.test']
  const web = await assay(['federation', 'update', ...partner, '-bundleEndpointProfile', 'https_web', '-output', 'json'])
  t.match(json(web.stdout), { results: [{ status: { message: 'OK' }, federation_relationship: { https_web: {} } }] })
  t.match(json((await assay(['federation', 'list', '-output', 'json'])).stdout), { federation_relationships: [{ https_web: {} }] })
  const refreshed = await assay(['federation', 'refresh', '-id', 'partner.test'])
  t.match(refreshed, { code: 1, stderr: /bundle_endpoint_unreachable/ })
  t.match(await assay(['federation', 'refresh', '-id', 'no.test']), { code: 1, stderr: /no relationship with trust domain "no.test"/ })
  const remove = () => assay(['federation', 'delete', '-id', 'partner.test'])
  t.same(await remove(), { code: 0, stderr: '', stdout: 'federation relationship deleted.\n' })
  t.match(await remove(), { code: 1, stdout: '', stderr: /no relationship with trust domain/ })
  t.match(await assay(['federation', 'show', '-trustDomain', 'partner.test']), { code: 1, stderr: /federation_not_found/ })
  t.match(await assay(['bundle', 'count']), { stdout: '2 bundles\n' }, 'the bundle is kept')
})

void t.test('a relationship ends together with its bundle, where that is asked for', async t => {
  await using server = await startTestServer()
  const assay = on(server)
  const create = () => assay(['federation', 'create', '-trustDomain', 'partner.test', ...byId, '-trustDomainBundlePath', pemFile])
  const remove = (mode: string) => assay(['federation', 'delete', '-id', 'partner.test', '-bundle', mode])
  await create()
  await assay([
    'entry', 'create', '-spiffeID', 'spiffe://example.org/web', '-parentID', 'spiffe://example.org/node', '-selector', 'unix:uid:1',
    '-federatesWith', 'spiffe://partner.test'
  ])
  const refused = { code: 1, stdout: 'federation relationship deleted.\n', stderr: /federated with 1 registration entries/ }
  t.match(await remove('restrict'), refused)
  await create()
  t.same(await remove('dissociate'), { code: 0, stderr: '', stdout: 'federation relationship deleted.\nbundle deleted.\n' })
  t.match(await assay(['bundle', 'count']), { stdout: '1 bundle\n' })
  t.match(await remove('dissociate'), { code: 1, stdout: '', stderr: /no relationship/ }, 'and no bundle is touched without one')
})

void t.test('relationships from a file; what is refused does not keep the others', async t => {
  await using server = await startTestServer()
  const assay = on(server)
  const one = { trustDomain: 'partner.test', bundleEndpointURL: 'https://a.test', bundleEndpointProfile: 'https_web' }
  const other = await createTestAuthority('other.test')
  const relationships = [
    { ...one, trustDomainBundle: pem },
    { ...one, trustDomain: 'example.org' },
    {
      trustDomain: 'spiffe://other.test', bundleEndpointURL: 'https://b.test', bundleEndpointProfile: 'https_spiffe',
      endpointSPIFFEID: 'spiffe://other.test/b', trustDomainBundleFormat: 'spiffe',
      trustDomainBundle: JSON.parse(formatBundleDocument(other.bundle)) as unknown
    }
  ]
  const data = (list: unknown) => JSON.stringify({ federationRelationships: list })
  const created = await assay(['federation', 'create', '-data', '-'], data(relationships))
  t.equal(created.code, 1)
  t.match(created.stdout, /partner\.test[^]*https_web\n\n[^]*other\.test[^]*spiffe:\/\/other\.test\/b\n$/)
  t.match(created.stderr, /Failed to create the following federation relationship \(code: InvalidArgument, msg: "[^]*cannot federate with/)
  t.match(created.stderr, /Error: failed to create one federation relationship\n$/)
  t.match(await assay(['bundle', 'count']), { stdout: '3 bundles\n' })
  const again = await assay(['federation', 'create', '-data', '-', '-output', 'json'], data([one]))
  t.match([again.code, json(again.stdout)], [1, { results: [{ status: { code: 13 } }] }])
  const moved = await assay(['federation', 'update', '-data', '-'], data([{ ...one, bundleEndpointURL: 'https://c.test' }]))
  t.match(moved, { code: 0, stdout: /https:\/\/c\.test/ })
  for (const [wrong, rule] of [
    [[], /federationRelationships: is empty/],
    [[{ ...one, bundleEndpointProfile: 'https_spiffe' }], /endpointSPIFFEID: is required/],
    [[{ ...one, endpointSPIFFEID: 'spiffe://a.test/b' }], /endpointSPIFFEID: is of https_spiffe alone/],
    [[{ ...one, bundleEndpointProfile: 'http' }], /bundleEndpointProfile: must be one of https_web, https_spiffe/],
    [[{ ...one, bundleEndpointUrl: 'x' }], /bundleEndpointUrl: unknown key; did you mean bundleEndpointURL/],
    [[{ ...one, trustDomainBundle: {} }], /trustDomainBundle: must be a string that holds PEM/],
    [[{ ...one, trustDomainBundle: 'x' }], /trustDomainBundle of partner\.test in standard input is not a bundle/]
  ] as const) t.match(await assay(['federation', 'create', '-data', '-'], data(wrong)), { code: 2, stderr: rule }, `${rule}`)
})

void t.test('wrong usage is told before a server is asked', async t => {
  const assay = on({ config: { socketPath: join(folder, 'none.sock') } as TestServer['config'] })
  for (const [words, rule] of [
    [['create', ...byId], /a trust domain is required: -trustDomain/],
    [['create', '-trustDomain', 'a.test', '-bundleEndpointProfile', 'https_web'], /a bundle endpoint URL is required/],
    [['create', '-trustDomain', 'a.test', '-bundleEndpointURL', 'https://a.test'], /a bundle endpoint profile is required/],
    [['create', '-trustDomain', 'a.test', ...endpoint, 'https_spiffe'], /https_spiffe needs the endpoint's ID: -endpointSpiffeID/],
    [['create', '-trustDomain', 'a.test', ...endpoint, 'https_web', '-endpointSpiffeID', 'spiffe://a.test/b'],
      /of -bundleEndpointProfile https_spiffe alone/],
    [['create', '-trustDomain', 'a.test', ...endpoint, 'http'], /must be one of https_web, https_spiffe/],
    [['create', '-data', '-', '-trustDomain', 'a.test'], /-trustDomain and -data exclude each other/],
    [['update', '-trustDomain', 'a.test'], /nothing to change/],
    [['show'], /a trust domain is required: -trustDomain/],
    [['delete'], /a trust domain is required: -id/],
    [['refresh'], /a trust domain is required: -id/]
  ] as const) t.match(await assay(['federation', ...words]), { code: 2, stdout: '', stderr: rule }, words.join(' '))
  t.match(await assay(['federation', 'list']), { code: 1, stderr: /cannot reach the server/ })
})

import t from 'tap'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import { until } from '../fakes/envoy.ts'
import { postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startTestReplicas } from '../fakes/replicas.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { noFederation, startTestServer, type TestServer } from '../fakes/server.ts'

const partnerDomain = parseTrustDomain('partner.test')
const federation = {
  ...noFederation, leastRefreshMs: 100,
  bundleEndpoint: { address: '127.0.0.1', port: 0, refreshHintSeconds: 3600, profileNamed: true, profile: { kind: 'https_spiffe' } }
} as const

const status = (server: TestServer, ...words: string[]) =>
  runAssay(['federation', 'status', '-socketPath', server.config.socketPath, ...words])

interface PartnerJson {
  readonly health: string
  readonly following?: { readonly last_success_at: string, readonly failures: number, readonly replica_id: string }
}

async function partnersOf (server: TestServer): Promise<readonly PartnerJson[]> {
  const { stdout } = await status(server, '-output', 'json')
  return (JSON.parse(stdout) as { partners: PartnerJson[] }).partners
}

const isHealthy = async (server: TestServer) => (await partnersOf(server))[0]?.health === 'healthy'

async function relate (from: TestServer, to: TestServer): Promise<string> {
  const { port } = await to.bundleEndpoint
  const bundleEndpointUrl = `https://127.0.0.1:${port}/`
  const { results } = await from.admin.client(trustDomainService).batchCreateFederationRelationship({
    federationRelationships: [{
      trustDomain: 'partner.test', bundleEndpointUrl, trustDomainBundle: await to.admin.client(bundleService).getBundle({}),
      httpsSpiffe: { endpointSpiffeId: 'spiffe://partner.test/spire/server' }
    }]
  })
  t.equal(results[0]?.status?.code, 0)
  return bundleEndpointUrl
}

void t.test('a partner from its first poll to its last', async t => {
  await using us = await startTestServer({ config: { federation } })
  await using them = await startTestServer({ config: { federation, trustDomain: partnerDomain } })
  t.same(await status(us), { code: 0, stderr: '', stdout: 'Trust domain example.org federates with 0 others\n' })
  const url = await relate(us, them)
  const relations = us.admin.client(trustDomainService)
  await relations.refreshBundle({ trustDomain: 'partner.test' })
  await until('the partner to be healthy', () => isHealthy(us), 60_000)
  const time = String.raw`\(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC\)`
  const healthy = await status(us)
  t.equal(healthy.code, 0)
  t.match(healthy.stdout, new RegExp([
    'Trust domain example.org federates with 1 other\n',
    'Trust domain {14}: partner.test', 'Health {20}: healthy', 'Relationship {14}: stored', `Bundle endpoint URL {7}: ${url}`,
    'Bundle endpoint profile {3}: https_spiffe', 'Endpoint SPIFFE ID {8}: spiffe://partner.test/spire/server',
    String.raw`Sequence number {11}: \d+`, 'Refresh hint {14}: 1h', 'Authorities {15}: 1 X.509, 1 JWT',
    String.raw`Trust breaks {14}: in 23h5\dm(?:\d+s)? ${time}`, 'Followed by {15}: replica sqlite',
    String.raw`Last success {14}: (?:\d+[ms])+ ago ${time}, from ${url}`, 'Failures in a row {9}: 0',
    String.raw`Next poll {17}: (?:in )?\w+ (?:ago )?${time}`,
    'Outside enforcement {7}: no entries\n$'
  ].join('\n')))

  const entries = Array.from({ length: 7 }, (_, n) => ({
    id: `entry-${n}`, spiffeId: { trustDomain: 'example.org', path: `/w${n}` }, parentId: { trustDomain: 'example.org', path: '/node' },
    selectors: [{ type: 'unix', value: 'uid:1' }], federatesWith: n === 6 ? [] : ['partner.test']
  }))
  await us.admin.client(entryService).batchCreateEntry({ entries })
  const consumers = 'Outside enforcement       : 6 entries have its bundle: entry-0, entry-1, entry-2, entry-3, entry-4, 1 more\n'
  t.match((await status(us)).stdout, consumers)

  await relations.batchUpdateFederationRelationship({
    federationRelationships: [{ trustDomain: 'partner.test', httpsSpiffe: { endpointSpiffeId: 'spiffe://partner.test/other' } }],
    inputMask: { bundleEndpointProfile: true }
  })
  for (let n = 0; n < 5; n++) {
    await t.rejects(relations.refreshBundle({ trustDomain: 'partner.test' }), { code: 'bundle_endpoint_untrusted' })
  }
  await until('the failures to count', async () => (await partnersOf(us))[0]?.health === 'failing', 60_000)
  const failing = await status(us)
  t.equal(failing.code, 1)
  t.match(failing.stdout, /Health {20}: failing\n/)
  const shows = String.raw`the endpoint shows \S+ instead of spiffe://partner.test/other, `
  t.match(failing.stdout, new RegExp(String.raw`Last error {16}: bundle_endpoint_untrusted FED-27: https:\S+: ${shows}`))
  t.match(failing.stdout, /Last success {14}: (?:\d+[ms])+ ago/, 'what was is not forgotten')
  t.match(failing.stdout, /Trust breaks {14}: in 23h/, 'the last good bundle stays')
  const json = await status(us, '-output', 'json')
  t.equal(json.code, 1)
  t.match(JSON.parse(json.stdout), {
    trust_domain: 'example.org',
    partners: [{
      trust_domain: 'partner.test', health: 'failing', consumers: '6', bundle: { x509_authorities: 1 }, trust_ends_in_ms: /^86\d{6}$/,
      following: { sources: [{ last_error: { code: 'bundle_endpoint_untrusted', requirement: 'FED-27' } }] }
    }]
  })
  await relations.batchDeleteFederationRelationship({ trustDomains: ['partner.test'] })
  t.same(await status(us), { code: 0, stderr: '', stdout: 'Trust domain example.org federates with 0 others\n' })
})

const skip = postgresMissing()
if (skip !== false) t.comment(`skipped: ${skip}`)

void t.test('a replica that follows nobody tells the same, also after the one that did has gone', { skip }, async t => {
  await using postgres = await startPostgres()
  await using them = await startTestServer({ config: { federation, trustDomain: partnerDomain } })
  const config = { federation: { ...noFederation, leastRefreshMs: 100 } }
  await using replicas = await startTestReplicas(await postgres.createSchema(), 0, config)
  const holder = await replicas.start()
  const stopHolder = async () => await holder[Symbol.asyncDispose]()
  t.teardown(stopHolder)
  await using other = await replicas.start()
  await relate(other, them)
  await until('the other to know', () => isHealthy(other), 60_000)
  const following = async () => (await partnersOf(other))[0]?.following
  const known = await following()
  t.ok(known)
  t.strictSame((await partnersOf(holder))[0]?.following, known)
  await stopHolder()
  t.ok(await isHealthy(other), 'nothing is forgotten while nobody follows')
  await until('the other to follow', async () => (await following())?.replica_id !== known?.replica_id, 60_000)
  const after = await following()
  t.equal(after?.failures ?? 0, 0)
  t.ok(BigInt(after?.last_success_at ?? 0) >= BigInt(known?.last_success_at ?? 0), 'nor when another begins')
})

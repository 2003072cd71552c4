import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { firstOf } from '../../src/runtime/first-of.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { securityHeader, startTestAgent, type TestAgent } from '../fakes/agent.ts'
import { newKey } from '../fakes/agent-client.ts'
import { createTestCa, pemOf, writeCaFiles } from '../fakes/ca-files.ts'
import { eventually } from '../fakes/eventually.ts'
import { postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startTestReplicas } from '../fakes/replicas.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startTestServer, testPlugins, type TestServer } from '../fakes/server.ts'

const skip = postgresMissing()
if (skip !== false) t.comment(`replicas skipped: ${skip}`)

async function openFolder () {
  const folder = await mkdtemp(join(tmpdir(), 'assay-upstream-'))
  return { folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) }
}

const bundleOf = async (server: TestServer) => decodeBundle(await server.admin.client(bundleService).getBundle({}))
const rootsOf = async (server: TestServer) => (await bundleOf(server)).x509Authorities.map(({ certificate }) => certificate)

async function mint (server: TestServer): Promise<readonly Uint8Array[]> {
  const csr = createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org/minted'] })
  return (await server.admin.client(svidService).mintX509SVID({ csr })).svid?.certChain ?? []
}

async function register (server: TestServer, agent: TestAgent): Promise<void> {
  const entry = {
    spiffeId: { trustDomain: 'example.org', path: '/web' }, parentId: { trustDomain: 'example.org', path: agent.path },
    selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }]
  }
  const { results } = await server.admin.client(entryService).batchCreateEntry({ entries: [entry] })
  t.equal(results[0]?.status?.code, 0)
}

/** What the agent has for this process. */
async function fetchSvid (agent: TestAgent) {
  const [svid] = (await firstOf(agent.workload.client(workloadService).fetchX509SVID({}, securityHeader)))?.svids ?? []
  if (svid === undefined) throw new Error('no SVID')
  return { chain: splitCertificates(svid.x509Svid), roots: splitCertificates(svid.bundle) }
}

await t.test('a server below a CA in files, with an agent and a workload; its root is replaced, tainted and revoked', async t => {
  await using place = await openFolder()
  const [first, second] = [await createTestCa(), await createTestCa()]
  const issuer = await createTestCa({ issuer: first })
  const files = await writeCaFiles(place.folder, [issuer], [first])
  const plugins = testPlugins({ UpstreamAuthority: { disk: { plugin_data: files } } })
  await using server = await startTestServer({ config: { plugins } })
  await using agent = await startTestAgent(server)
  await register(server, agent)

  t.same(await rootsOf(server), [first.certificate.raw], 'the upstream\'s root alone')
  await eventually('the workload\'s SVID', async () => await fetchSvid(agent).then(() => true, () => false))
  const before = await fetchSvid(agent)
  t.same(before.roots, [first.certificate.raw])
  t.equal(before.chain.length, 3, 'leaf, our CA, the CA in the file')
  const verify = async (chain: readonly Uint8Array[]) => {
    const bundle = await bundleOf(server)
    return verifyX509Svid(chain, { bundleOf: () => bundle, at: new Date() }).id
  }
  t.equal(await verify(before.chain), 'spiffe://example.org/web')

  const authorities = server.admin.client(localAuthorityService)
  const { active } = await authorities.getX509AuthorityState({})
  t.equal(active?.upstreamAuthoritySubjectKeyId, first.subjectKeyId)
  await t.rejects(authorities.taintX509Authority({ authorityId: 'any' }), { code: 'upstream_authority_signs' })
  await t.rejects(authorities.revokeX509Authority({ authorityId: 'any' }), { code: 'upstream_authority_signs' })
  await t.rejects(authorities.taintX509UpstreamAuthority({ subjectKeyId: first.subjectKeyId }), { code: 'authority_in_use' })

  await writeCaFiles(place.folder, [second], [second])
  const { preparedAuthority } = await authorities.prepareX509Authority({})
  t.equal(preparedAuthority?.upstreamAuthoritySubjectKeyId, second.subjectKeyId, 'new files count from the next CA')
  t.equal((await bundleOf(server)).x509Authorities.length, 2, 'the root before stays, though its file is gone')
  await authorities.activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? '' })
  t.equal(await verify((await fetchSvid(agent)).chain), 'spiffe://example.org/web')

  const socket = ['-socketPath', server.config.socketPath]
  const taint = await runAssay(['upstreamauthority', 'taint', '-subjectKeyID', first.subjectKeyId, ...socket])
  t.match(taint, { code: 0, stdout: `Tainted X.509 upstream authority:\n  Subject Key ID: ${first.subjectKeyId}\n` })
  await eventually('the SVID below the tainted root to be replaced', async () =>
    Buffer.compare((await fetchSvid(agent)).chain[0] as Uint8Array, before.chain[0] as Uint8Array) !== 0)
  const replaced = await fetchSvid(agent)
  t.same(parseCertificate(replaced.chain.at(-1) as Uint8Array).authorityKeyId, second.certificate.subjectKeyId)
  t.equal(await verify(before.chain), 'spiffe://example.org/web', 'a tainted root is still believed')
  const revoke = await runAssay(['upstreamauthority', 'revoke', '-subjectKeyID', first.subjectKeyId, ...socket, '--output', 'json'])
  t.match(revoke, { code: 0, stdout: `{"upstream_authority_subject_key_id":"${first.subjectKeyId}"}\n` })
  await t.rejects(verify(before.chain), { code: 'x509_chain_untrusted' }, 'a revoked one is not')
  await eventually('the workload to see the root gone', async () => (await fetchSvid(agent)).roots.length === 1)
  await writeFile(files.bundle_file_path ?? '', pemOf(second, first))
  await authorities.prepareX509Authority({})
  t.same(await rootsOf(server), [second.certificate.raw], 'it does not come back by a file')
})

await t.test('a restart goes on with its CA, also while the files are of no use for another', async t => {
  await using place = await openFolder()
  const root = await createTestCa()
  const files = await writeCaFiles(place.folder, [root])
  const config = { plugins: testPlugins({ UpstreamAuthority: { disk: { plugin_data: files } } }) }
  const run = async () => {
    await using server = await startTestServer({ config, folder: place.folder })
    return (await mint(server))[1] as Uint8Array
  }
  const before = await run()
  t.same(await run(), before)
  await writeFile(files.cert_file_path, pemOf(root).slice(0, 300))
  const message = /^UpstreamAuthority "disk": .*upstream\.crt/
  await t.rejects(run(), { code: 'upstream_invalid', message }, 'half a file is told at the start')
})

await t.test('replicas share one CA of the upstream, with an intermediate each', { skip }, async t => {
  await using place = await openFolder()
  await using postgres = await startPostgres()
  const root = await createTestCa()
  const disk = { plugin_data: await writeCaFiles(place.folder, [root]) }
  const upstream = testPlugins({ UpstreamAuthority: { disk } }).UpstreamAuthority
  await using replicas = await startTestReplicas(await postgres.createSchema(), 2, {}, upstream)
  const chains = await Promise.all(replicas.servers.map(mint))
  t.same(chains.map(chain => chain.length), [3, 3], 'leaf, the replica\'s intermediate, the CA')
  t.same(chains[0]?.[2], chains[1]?.[2], 'the same CA')
  t.notSame(chains[0]?.[1], chains[1]?.[1])
  for (const server of replicas.servers) {
    const bundle = await bundleOf(server)
    t.same(bundle.x509Authorities.map(({ certificate }) => certificate), [root.certificate.raw])
    for (const chain of chains) t.ok(verifyX509Svid(chain, { bundleOf: () => bundle, at: new Date() }))
  }
  const [one, two] = replicas.servers as [TestServer, TestServer]
  const next = await createTestCa()
  await writeCaFiles(place.folder, [next])
  const authorities = two.admin.client(localAuthorityService)
  const { preparedAuthority } = await authorities.prepareX509Authority({})
  await authorities.activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? '' })
  await authorities.taintX509UpstreamAuthority({ subjectKeyId: root.subjectKeyId })
  await eventually('the other replica to sign below the new root', async () =>
    Buffer.compare((await mint(one)).at(-1) as Uint8Array, chains[0]?.at(-1) as Uint8Array) !== 0)
  await eventually('the other replica to know the taint', async () =>
    (await bundleOf(one)).x509Authorities.some(({ tainted }) => tainted))
  await one.admin.client(localAuthorityService).revokeX509UpstreamAuthority({ subjectKeyId: root.subjectKeyId })
  t.equal((await bundleOf(one)).x509Authorities.length, 1, 'what one replica tainted another revokes')
})

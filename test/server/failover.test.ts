import t from 'tap'
import { Mailbox } from '../../src/runtime/mailbox.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { agentSyncService, type SyncRequestInit } from '../../src/wire/generated/agent-sync.ts'
import { clusterService } from '../../src/wire/generated/cluster.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { attest, newKey, openServerChannel } from '../fakes/agent-client.ts'
import { eventually } from '../fakes/eventually.ts'
import { across, atOnceMs, patientPool, postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startTestReplicas } from '../fakes/replicas.ts'
import type { TestServer } from '../fakes/server.ts'

const skip = postgresMissing()
if (skip !== false) t.comment(`skipped: ${skip}`)

await t.test('replicas live through a fail-over of PostgreSQL, and take nothing along that it lost', { skip }, async t => {
  await using primary = await startPostgres()
  const schema = await primary.createSchema()
  await using standby = await primary.startStandby('standby')
  await using replicas = await startTestReplicas(across(schema, primary, standby), 2, { datastorePool: patientPool })
  const [one, two] = replicas.servers as [TestServer, TestServer]
  const authorities = one.admin.client(localAuthorityService)
  const agent = await attest(one)
  const [agentId = ''] = parseCertificate(agent.chain[0] as Uint8Array).uriSans
  const parentId = { trustDomain: 'example.org', path: new URL(agentId).pathname }
  const create = async (server: TestServer, path: string) => {
    const entry = { spiffeId: { trustDomain: 'example.org', path }, parentId, selectors: [{ type: 'unix', value: 'uid:1' }] }
    const { results } = await server.admin.client(entryService).batchCreateEntry({ entries: [entry] })
    return results[0]?.status?.code
  }
  t.equal(await create(one, '/kept'), 0)
  await using channel = openServerChannel(two, agent)
  const requests = new Mailbox<SyncRequestInit>()
  requests.put({})
  const answers = channel.client(agentSyncService).sync(requests)[Symbol.asyncIterator]()
  const known = new Map<string, string | undefined>()
  const follow = async () => {
    const { value } = await answers.next()
    if (value === undefined) throw new Error('the stream ended')
    if (value.snapshot) known.clear()
    for (const id of value.removedEntryIds) known.delete(id)
    for (const { id, spiffeId } of value.entries) known.set(id, spiffeId?.path)
    return value
  }
  const before = (await follow()).cursor?.epoch ?? ''
  // The other replica may not have heard of it when it is asked first.
  while (known.size === 0) await follow()
  t.same([...known.values()], ['/kept'])
  await standby.catchUp()
  await standby.cutOff()

  await authorities.prepareX509Authority({})
  t.equal(await create(one, '/lost'), 0)
  while (![...known.values()].includes('/lost')) await follow()
  t.match(await two.admin.client(bundleService).getBundle({}), { x509Authorities: { length: 2 } })

  await primary.stop()
  for (const server of replicas.servers) {
    const startedMs = performance.now()
    await t.rejects(create(server, '/none'), { status: 'UNAVAILABLE', code: 'datastore_unavailable', message: /server is a standby/ })
    t.ok(performance.now() - startedMs < atOnceMs, 'said before any attempt to connect has to end')
  }
  const { entries } = await channel.client(entryService).getAuthorizedEntries({})
  t.equal(entries.length, 2, 'agents are answered from memory meanwhile')

  await standby.promote()
  t.equal(await create(two, '/after'), 0, 'the first attempt finds the new primary')
  while (![...known.values()].includes('/after')) {
    const { cursor } = await follow()
    t.equal(cursor?.epoch, before.replace(/1$/, '2'))
  }
  t.same(new Set(known.values()), new Set(['/after', '/kept']), 'the agent has unlearned what was lost')
  await eventually('so has the other replica', async () => {
    const { entries } = await one.admin.client(entryService).listEntries({})
    const { x509Authorities } = await one.admin.client(bundleService).getBundle({})
    return entries.map(({ spiffeId }) => spiffeId?.path).join(' ') === '/kept /after' && x509Authorities.length === 1
  })
  await eventually('the authority that was prepared is gone', async () =>
    (await authorities.getX509AuthorityState({})).prepared === undefined)
  await authorities.prepareX509Authority({})
  await eventually('a new one is published everywhere', async () =>
    (await two.admin.client(bundleService).getBundle({})).x509Authorities.length === 2)
  const { svid } = await one.admin.client(svidService).mintX509SVID({
    csr: createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org/minted'] })
  })
  const bundle = decodeBundle(await two.admin.client(bundleService).getBundle({}))
  t.ok(verifyX509Svid(svid?.certChain ?? [], { bundleOf: () => bundle, at: new Date() }), 'what one signs the other verifies')
  let status = await two.admin.client(clusterService).getStatus({})
  await eventually(() => `changes are told of again, not polled for: ${status.warnings.join()}`, async () => {
    status = await two.admin.client(clusterService).getStatus({})
    return status.replicas.length === 2 && status.replicas.every(({ nudged }) => nudged) && status.warnings.length === 1
  }, 120_000)
  t.match(status.warnings, [/no synchronous standby/])
})

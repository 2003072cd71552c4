import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { openTlsChannel } from '../../src/rpc/channel.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { agentSyncService, type SyncRequestInit } from '../../src/wire/generated/agent-sync.ts'
import { clusterService } from '../../src/wire/generated/cluster.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { Mailbox } from '../../src/runtime/mailbox.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { firstOf } from '../../src/runtime/first-of.ts'
import { workloadService, type X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { securityHeader, startTestAgent } from '../fakes/agent.ts'
import { attest, identityOf, newKey, openServerChannel, type TestIdentity } from '../fakes/agent-client.ts'
import { eventually } from '../fakes/eventually.ts'
import { executeSql, postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { databaseKeys, startTestReplicas } from '../fakes/replicas.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'

const skip = postgresMissing()
if (skip !== false) t.comment(`skipped: ${skip}`)
const message = (path: string) => ({ trustDomain: 'example.org', path })

function idOf ({ chain }: TestIdentity): { trustDomain: string, path: string } {
  return message(new URL(parseCertificate(chain[0] as Uint8Array).uriSans[0] as string).pathname)
}

async function register (server: TestServer, parentId: { trustDomain: string, path: string }, path: string): Promise<string> {
  const entry = { spiffeId: message(path), parentId, selectors: [{ type: 'unix', value: 'uid:1' }] }
  const { results } = await server.admin.client(entryService).batchCreateEntry({ entries: [entry] })
  t.equal(results[0]?.status?.code, 0)
  return results[0]?.entry?.id ?? ''
}

await t.test('three equal replicas on one database', { skip }, async t => {
  await using postgres = await startPostgres()
  const datastoreUrl = await postgres.createSchema()
  await using replicas = await startTestReplicas(datastoreUrl, 3)
  const [one, two, three] = replicas.servers as [TestServer, TestServer, TestServer]

  await t.test('one root and one JWT key, an intermediate each; what one signs verifies everywhere', async t => {
    const bundles = await Promise.all(replicas.servers.map(server => server.admin.client(bundleService).getBundle({})))
    t.strictSame(bundles[1], bundles[0])
    t.match(bundles[0], { x509Authorities: { length: 1 }, jwtAuthorities: { length: 1 } })
    const csr = createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org/minted'] })
    const bundle = decodeBundle(bundles[2] as NonNullable<typeof bundles[2]>)
    const intermediates = await Promise.all(replicas.servers.map(async server => {
      const { svid } = await server.admin.client(svidService).mintX509SVID({ csr })
      t.ok(verifyX509Svid(svid?.certChain ?? [], { bundleOf: () => bundle, at: new Date() }))
      return Buffer.from(svid?.certChain[1] ?? []).toString('base64')
    }))
    t.equal(new Set(intermediates).size, 3)
  })

  await t.test('an agent attested at one is known to all, and what one is told all answer', async t => {
    const agent = await attest(one)
    const id = await register(two, idOf(agent), '/web')
    for (const server of replicas.servers) {
      await using channel = openServerChannel(server, agent)
      const { results } = await channel.client(svidService).batchNewX509SVID({
        params: [{ entryId: id, csr: createCertificateRequest(newKey()) }]
      })
      t.equal(results[0]?.status?.code, 0, 'even a replica that has not heard of the entry yet looks before it refuses')
    }
    await using atTwo = openServerChannel(two, agent)
    const key = newKey()
    const { svid } = await atTwo.client(agentService).renewAgent({ params: { csr: createCertificateRequest(key) } })
    await using renewed = openServerChannel(three, identityOf(svid?.certChain ?? [], key))
    await renewed.client(agentService).postStatus({ agentVersion: '1' })
    await using old = openServerChannel(one, agent)
    await eventually('the replaced SVID is out everywhere', async () =>
      await old.client(entryService).getAuthorizedEntries({}).then(() => false, error => error.code === 'agent_not_active'))
  })

  await t.test('a change reaches the stream of an agent at another replica; the agent resumes at a third', async t => {
    const agent = await attest(one)
    const stop = new AbortController()
    await using atTwo = openServerChannel(two, agent)
    const requests = new Mailbox<SyncRequestInit>()
    requests.put({ agentVersion: 'test' })
    const answers = atTwo.client(agentSyncService).sync(requests, { signal: stop.signal })[Symbol.asyncIterator]()
    const first = (await answers.next()).value
    t.match(first, { snapshot: true, more: false, entries: [], bundles: [{ trustDomain: 'example.org' }] })
    const id = await register(three, idOf(agent), '/pushed')
    const second = (await answers.next()).value
    t.match(second, { snapshot: false, entries: [{ id }], removedEntryIds: [] })
    requests.put({ acknowledged: second?.cursor })
    const since = second?.cursor
    const watch = (server: TestServer) => server.admin.client(clusterService).watchConvergence({ entryIds: [id], timeoutMs: 60_000 })
    for (const server of replicas.servers) {
      const states = []
      for await (const state of watch(server)) states.push(state)
      t.match(states.at(-1), { converged: true, consumers: [{ state: 'acknowledged' }] }, 'any replica can say who has it')
    }
    stop.abort(new Error('moving on'))
    await register(one, idOf(agent), '/while-away')
    await one.admin.client(entryService).batchDeleteEntry({ ids: [id] })
    await using atThree = openServerChannel(three, agent)
    const again = new Mailbox<SyncRequestInit>()
    again.put({ resume: since })
    const resumed = []
    for await (const answer of atThree.client(agentSyncService).sync(again)) {
      resumed.push(answer)
      if (resumed.flatMap(({ removedEntryIds }) => removedEntryIds).length > 0) break
    }
    t.notOk(resumed.some(({ snapshot }) => snapshot), 'only what it missed')
    t.same(resumed.flatMap(({ entries }) => entries.map(({ spiffeId }) => spiffeId?.path)), ['/while-away'])
    t.same(resumed.flatMap(({ removedEntryIds }) => removedEntryIds), [id])
  })

  await t.test('a ban at one ends the stream at another, and calls everywhere', async t => {
    const agent = await attest(two)
    await using channel = openServerChannel(three, agent)
    const requests = new Mailbox<SyncRequestInit>()
    requests.put({})
    const answers = channel.client(agentSyncService).sync(requests)[Symbol.asyncIterator]()
    await answers.next()
    await one.admin.client(agentService).banAgent({ id: idOf(agent) })
    await t.rejects(answers.next(), { code: 'agent_banned' })
    await using atTwo = openServerChannel(two, agent)
    await eventually('the second replica refuses as well', async () =>
      await atTwo.client(entryService).getAuthorizedEntries({}).then(() => false, error => error.code === 'agent_banned'))
  })

  await t.test('commands on authorities act on the trust domain, whichever replica is asked', async t => {
    const { preparedAuthority } = await one.admin.client(localAuthorityService).prepareX509Authority({})
    const { activatedAuthority } = await two.admin.client(localAuthorityService)
      .activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? '' })
    t.equal(activatedAuthority?.authorityId, preparedAuthority?.authorityId)
    const csr = createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org/minted'] })
    await eventually('the third signs with it', async () => {
      const { svid } = await three.admin.client(svidService).mintX509SVID({ csr })
      const { authorityKeyId = new Uint8Array() } = parseCertificate(svid?.certChain[1] as Uint8Array)
      return Buffer.from(authorityKeyId).toString('hex') === preparedAuthority?.authorityId
    })
    const { old } = await three.admin.client(localAuthorityService).getX509AuthorityState({})
    await three.admin.client(localAuthorityService).taintX509Authority({ authorityId: old?.authorityId ?? '' })
    await eventually('the taint is seen everywhere', async () =>
      (await one.admin.client(bundleService).getBundle({})).x509Authorities.some(({ tainted }) => tainted))
    await two.admin.client(localAuthorityService).revokeX509Authority({ authorityId: old?.authorityId ?? '' })
    await eventually('and the revocation', async () => (await one.admin.client(bundleService).getBundle({})).x509Authorities.length === 1)
    const bundle = decodeBundle(await one.admin.client(bundleService).getBundle({}))
    for (const { ready } of replicas.servers) {
      const verifyServer = (chain: readonly Uint8Array[]) => { verifyX509Svid(chain, { bundleOf: () => bundle, at: new Date() }) }
      await using channel = openTlsChannel({ address: `127.0.0.1:${ready.port}`, verifyServer, log: silentLogger })
      t.ok(await channel.client(bundleService).getBundle({}), 'no replica shows what the revoked one signed')
    }
  })

  await t.test('the status names all replicas, the holder of the chores and the authorities', async t => {
    // Of one answer: on a machine that stands still for some seconds they poll for a moment.
    const look = () => two.admin.client(clusterService).getStatus({})
    let status = await look()
    await eventually(() => `all have reported, and are told of changes: ${status.warnings.join()}`, async () => {
      status = await look()
      return status.replicas.length === 3 && status.replicas.every(({ nudged }) => nudged) && status.warnings.length === 1
    }, 120_000)
    t.match(status, { trustDomain: 'example.org', sharedAuthorities: true, datastore: 'postgres' })
    t.match(status.warnings, [/no synchronous standby/])
    t.ok(status.replicas.some(({ id }) => id === status.leaseHolder))
    t.same(status.authorities.map(({ kind, state }) => `${kind} ${state}`), ['x509 active', 'jwt active'])
  })

  await t.test('a replica with another key-encryption key does not start', async t => {
    const keyFile = join(t.testdir(), 'other')
    await writeFile(keyFile, 'f'.repeat(64))
    await t.rejects(startTestServer({ config: { datastoreUrl, ...databaseKeys(keyFile) } }), { code: 'key_encryption_key_invalid' })
  })

  await t.test('keys, bundle entries and leases do not grow with restarts', async t => {
    const facts = () => executeSql(datastoreUrl, `select (select count(*) from wrapped_keys)::int as keys,
      (select count(*) from authorities where state in ('prepared', 'active'))::int as authorities,
      (select x509_authorities from bundles where trust_domain = 'example.org') as roots`)
    const before = await facts()
    for (let n = 0; n < 2; n++) await (await replicas.start())[Symbol.asyncDispose]()
    t.same(await facts(), before)
  })
})

await t.test('real agents follow: pushed, acknowledged, and unbroken when their server goes', { skip }, async t => {
  await using postgres = await startPostgres()
  await using replicas = await startTestReplicas(await postgres.createSchema(), 1)
  const one = replicas.servers[0] as TestServer
  const two = await replicas.start()
  const addresses = [one, two].map(({ ready }) => `127.0.0.1:${ready.port}`)
  await using agent = await startTestAgent(two, { config: { serverAddresses: addresses.toReversed(), syncIntervalSeconds: 3600 } })
  const parent = message(agent.path)
  const uid = `unix:uid:${process.getuid?.()}`
  const create = (server: TestServer, path: string) => server.admin.client(entryService).batchCreateEntry({ entries: [{
    spiffeId: message(path), parentId: parent, selectors: [{ type: 'unix', value: uid.slice('unix:'.length) }]
  }] })
  const seen: string[][] = []
  const stop = new AbortController()
  const watching = (async () => {
    while (!stop.signal.aborted) {
      try {
        const stream = agent.workload.client(workloadService).fetchX509SVID({}, { ...securityHeader, signal: stop.signal })
        for await (const { svids } of stream) seen.push(svids.map(({ spiffeId }) => new URL(spiffeId).pathname).toSorted())
      } catch {
        // No identity yet, or the test is over.
      }
    }
  })()
  const sees = (...paths: string[]) => eventually(`the workload is ${paths.join(' and ')}`, () => seen.at(-1)?.join() === paths.join())
  const { head: since } = await one.admin.client(clusterService).getStatus({})
  const { results } = await create(one, '/a')
  await sees('/a')
  const states = []
  const question = { since, entryIds: [results[0]?.entry?.id ?? ''], timeoutMs: 60_000 }
  for await (const state of one.admin.client(clusterService).watchConvergence(question)) states.push(state)
  t.match(states.at(-1), { converged: true, consumers: [{ state: 'acknowledged', unservedEntryIds: [] }] })
  await two[Symbol.asyncDispose]()
  await create(one, '/b')
  await sees('/a', '/b')
  await one.admin.client(entryService).batchDeleteEntry({ ids: question.entryIds })
  await sees('/b')
  const fromTheFirst = seen.slice(seen.findIndex(state => state.includes('/a')))
  t.notOk(fromTheFirst.some(state => state.length === 0), 'never without an identity meanwhile')
  const { preparedAuthority } = await one.admin.client(localAuthorityService).prepareX509Authority({})
  await one.admin.client(localAuthorityService).activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? '' })
  const { old } = await one.admin.client(localAuthorityService).getX509AuthorityState({})
  await one.admin.client(localAuthorityService).taintX509Authority({ authorityId: old?.authorityId ?? '' })
  await eventually('what the tainted root signed is replaced', async () => {
    const { svids } = await firstOf(agent.workload.client(workloadService).fetchX509SVID({}, securityHeader)) as X509SVIDResponse
    const [, intermediate] = splitCertificates(svids[0]?.x509Svid ?? new Uint8Array())
    const { authorityKeyId } = parseCertificate(intermediate ?? new Uint8Array())
    return Buffer.from(authorityKeyId ?? []).toString('hex') === preparedAuthority?.authorityId
  })
  stop.abort()
  await watching
})

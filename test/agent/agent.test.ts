import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { firstOf } from '../../src/runtime/first-of.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { secretDiscoveryService } from '../../src/wire/generated/envoy-sds.ts'
import { HealthCheckResponse_ServingStatus as ServingStatus, healthService } from '../../src/wire/generated/health.ts'
import { reflectionService } from '../../src/wire/generated/reflection.ts'
import type { EntryInit } from '../../src/wire/generated/types.ts'
import { workloadService, type X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'
import { securityHeader, startTestAgent, type TestAgent } from '../fakes/agent.ts'
import { openRelay } from '../fakes/relay.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { SkippingClock } from '../fakes/skipping-clock.ts'

const uid = process.getuid?.() ?? 0
const id = (path: string) => ({ trustDomain: 'example.org', path })
/** Of an SVID, which lives for an hour. */
const halfLifeMs = 30 * 60_000

async function register (server: TestServer, agent: TestAgent, path: string, more: EntryInit = {}): Promise<string> {
  const { results } = await server.admin.client(entryService).batchCreateEntry({
    entries: [{ spiffeId: id(path), parentId: id(agent.path), selectors: [{ type: 'unix', value: `uid:${uid}` }], ...more }]
  })
  if (results[0]?.status?.code !== 0) throw new Error(results[0]?.status?.message)
  return results[0].entry?.id ?? ''
}

/** The first state of a new stream that satisfies the test; a denied caller tries again, as clients do. */
async function stateWith (agent: TestAgent, test: (state: X509SVIDResponse) => boolean): Promise<X509SVIDResponse> {
  for (;;) {
    try {
      for await (const state of agent.workload.client(workloadService).fetchX509SVID({}, securityHeader)) if (test(state)) return state
    } catch (error) {
      if (!['PERMISSION_DENIED', 'UNAVAILABLE'].includes((error as { status?: string }).status ?? '')) throw error
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
}

/** The status of a first answer, `OK` when there is one. */
async function statusOf (call: AsyncIterable<unknown> | Promise<unknown>): Promise<string> {
  try {
    if (Symbol.asyncIterator in call) for await (const _ of call) break
    else await call
    return 'OK'
  } catch (error) {
    return (error as { status: string }).status
  }
}

const idsOf = (state: X509SVIDResponse) => state.svids.map(svid => svid.spiffeId)

void t.test('an entry becomes an identity, follows its changes and goes with it', async t => {
  await using server = await startTestServer()
  await using agent = await startTestAgent(server)
  const first = await register(server, agent, '/web', { id: 'b', hint: 'main' })
  const state = await stateWith(agent, () => true)
  t.same(idsOf(state), ['spiffe://example.org/web'])
  t.equal(state.svids[0]?.hint, 'main')
  const leaf = parseCertificate(splitCertificates(state.svids[0]?.x509Svid ?? new Uint8Array())[0] as Uint8Array)
  t.same(leaf.uriSans, ['spiffe://example.org/web'])

  const stream = agent.workload.client(workloadService).fetchX509SVID({}, securityHeader)[Symbol.asyncIterator]()
  t.same(idsOf((await stream.next()).value), ['spiffe://example.org/web'], 'WLAPI-08: the state is there at once')
  await register(server, agent, '/second', { id: 'c' })
  t.same(idsOf((await stream.next()).value), [
    'spiffe://example.org/web', 'spiffe://example.org/second'
  ], 'WLAPI-07: the whole state; WLAPI-35: by entry id')
  await server.admin.client(entryService).batchUpdateEntry(
    { entries: [{ id: first, spiffeId: id('/renamed') }], inputMask: { spiffeId: true } }
  )
  t.same(idsOf((await stream.next()).value), ['spiffe://example.org/second'], 'the old ID is withdrawn before the new one is signed')
  t.same(idsOf((await stream.next()).value), ['spiffe://example.org/renamed', 'spiffe://example.org/second'])
  await server.admin.client(entryService).batchDeleteEntry({ ids: [first] })
  t.same(idsOf((await stream.next()).value), ['spiffe://example.org/second'])
  const { entries } = await server.admin.client(entryService).listEntries({})
  await server.admin.client(entryService).batchDeleteEntry({ ids: entries.map(entry => entry.id) })
  await t.rejects(stream.next(), { message: 'no identity issued' }, 'WLAPI-17: the last identity gone ends the stream')
})

void t.test('JWT-SVIDs are fetched, reused, and validated by the agent', async t => {
  await using server = await startTestServer()
  await using agent = await startTestAgent(server)
  await register(server, agent, '/web')
  await stateWith(agent, () => true)
  const workload = agent.workload.client(workloadService)
  const { svids: [first] } = await workload.fetchJWTSVID({ audience: ['db', 'cache'] }, securityHeader)
  const { svids: [again] } = await workload.fetchJWTSVID({ audience: ['cache', 'db'] }, securityHeader)
  t.equal(first?.svid, again?.svid, 'the order of audiences does not matter')
  const valid = await workload.validateJWTSVID({ audience: 'db', svid: first?.svid ?? '' }, securityHeader)
  t.equal(valid.spiffeId, 'spiffe://example.org/web')
  await t.rejects(workload.validateJWTSVID({ audience: 'other', svid: first?.svid ?? '' }, securityHeader), { name: 'RpcError' })
  await t.rejects(workload.fetchJWTSVID(
    { audience: ['db'], spiffeId: 'spiffe://example.org/not-mine' }, securityHeader
  ), { message: 'no identity issued' })
})

void t.test('what an agent offers on its socket', async t => {
  await using server = await startTestServer({ config: { disableJwtSvids: true } })
  await using agent = await startTestAgent(server)
  const requests = (async function * () { yield { listServices: '' } })()
  const listed = await firstOf(agent.workload.client(reflectionService).serverReflectionInfo(requests))
  t.same(listed?.listServicesResponse?.service.map(({ name }) => name).toSorted(), [
    'SpiffeWorkloadAPI', 'envoy.service.secret.v3.SecretDiscoveryService', 'grpc.health.v1.Health', 'grpc.reflection.v1.ServerReflection',
    'grpc.reflection.v1alpha.ServerReflection'
  ], 'WLE-17 WLE-19 AMB-09 the Workload API, under its name on the wire; Envoy\'s SDS beside it')
  t.equal((await stat(agent.config.socketPath)).mode & 0o777, 0o777, 'any user\'s process may call')
  const health = agent.workload.client(healthService)
  await eventually('it is healthy', async () => (await health.check({})).status === ServingStatus.SERVING)
  for (const call of [() => health.list({}), () => firstOf(health.watch({}))]) {
    t.equal(await call().catch((error: { status: string }) => error.status), 'UNIMPLEMENTED', 'no List, no Watch')
  }
  await register(server, agent, '/web')
  await stateWith(agent, () => true)
  const workload = agent.workload.client(workloadService)
  const disabled = { status: 'UNIMPLEMENTED', code: 'jwt_disabled' }
  await t.rejects(workload.fetchJWTSVID({ audience: ['db'] }, securityHeader), disabled, 'AMB-11 WLAPI-01 the disabled JWT profile')
})

void t.test('SVIDs are renewed at half-life, while streams stay open', async t => {
  await using server = await startTestServer()
  const clock = new SkippingClock(0)
  await using agent = await startTestAgent(server, { clock })
  await register(server, agent, '/web')
  // To the half of an hour, and of what the next one has left then.
  const skips = [halfLifeMs, halfLifeMs / 2]
  const serials = new Set<string>()
  let last: Date | undefined
  await stateWith(agent, state => {
    const leaf = parseCertificate(splitCertificates(state.svids[0]?.x509Svid ?? new Uint8Array())[0] as Uint8Array)
    t.ok(last === undefined || last > clock.now(), 'the one before was still valid')
    last = leaf.notAfter
    if (serials.size < serials.add(leaf.serialNumber).size) clock.skip(skips.shift() ?? 0)
    return serials.size === 3
  })
  t.equal(serials.size, 3)
})

void t.test('identity and key survive a restart; nothing private is readable by others', async t => {
  await using server = await startTestServer()
  const first = await startTestAgent(server)
  await register(server, first, '/web')
  await stateWith(first, () => true)
  const { agents: [before] } = await server.admin.client(agentService).listAgents({})
  const kept = await readFile(join(first.folder, 'agent-data.json'))
  t.equal((await stat(join(first.folder, 'agent-data.json'))).mode & 0o777, 0o600)
  const { folder } = first
  await first[Symbol.asyncDispose]()

  const { mkdir } = await import('node:fs/promises')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'agent-data.json'), kept, { mode: 0o600 })
  await using second = await startTestAgent(server, { folder, token: 'not-a-token' })
  t.same(idsOf(await stateWith(second, () => true)), ['spiffe://example.org/web'], 'no token was needed')
  const { agents: [after] } = await server.admin.client(agentService).listAgents({})
  t.equal(after?.x509svidSerialNumber, before?.x509svidSerialNumber)
})

void t.test('a banned or evicted agent ends, and leaves no SVID behind', async t => {
  await using server = await startTestServer()
  for (const [act, code] of [['banAgent', 'agent_banned'], ['deleteAgent', 'agent_not_attested']] as const) {
    await using agent = await startTestAgent(server)
    await server.admin.client(agentService)[act]({ id: id(agent.path) })
    await t.rejects(agent.ended, { code }, act)
    await t.rejects(readFile(join(agent.folder, 'agent-data.json')), { code: 'ENOENT' })
  }
})

void t.test('before its first synchronisation an agent refuses workloads as UNAVAILABLE and lets Envoy wait', async t => {
  await using server = await startTestServer()
  await using relay = await openRelay(server.ready.port)
  const folder = await mkdtemp(join(tmpdir(), 'assay-agent-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const before = await startTestAgent(server, { folder, config: { offlineMaxAgeSeconds: 0 } })
  await register(server, before, '/web')
  await before[Symbol.asyncDispose]()

  await using agent = await startTestAgent(server, { folder, config: { serverAddresses: [`127.0.0.1:${relay.port}`] } })
  const workload = agent.workload.client(workloadService)
  const refused = { status: 'UNAVAILABLE', code: 'server_initializing' }
  await t.rejects(firstOf(workload.fetchX509SVID({}, securityHeader)), refused, 'WLE-13 FetchX509SVID')
  await t.rejects(firstOf(workload.fetchX509Bundles({}, securityHeader)), refused, 'WLE-13 FetchX509Bundles')
  await t.rejects(firstOf(workload.fetchJWTBundles({}, securityHeader)), refused, 'WLE-13 FetchJWTBundles')
  await t.rejects(workload.fetchJWTSVID({ audience: ['db'] }, securityHeader), refused, 'WLE-13 FetchJWTSVID')
  await t.rejects(workload.validateJWTSVID({ audience: 'db', svid: 'a.b.c' }, securityHeader), refused, 'WLE-13 ValidateJWTSVID')
  const malformed = { name: 'RpcError', status: 'INVALID_ARGUMENT' }
  await t.rejects(workload.fetchJWTSVID({}, securityHeader), malformed, 'what is wrong in itself is said at once')
  let answered = false
  const secrets = agent.workload.client(secretDiscoveryService).fetchSecrets({ resourceNames: ['spiffe://example.org/web'] })
    .finally(() => { answered = true })
  await t.rejects(firstOf(workload.fetchX509SVID({}, securityHeader)), refused, 'still')
  t.equal(answered, false, 'Envoy waits meanwhile')

  relay.open()
  t.equal((await secrets).resources.length, 1, 'and has its secret once the server answers')
  t.same(idsOf(await stateWith(agent, () => true)), ['spiffe://example.org/web'], 'as have workloads')
})

void t.test('an agent that was banned or evicted while it was down ends at its start, and leaves no SVID behind', async t => {
  await using server = await startTestServer()
  for (const [act, code] of [['banAgent', 'agent_banned'], ['deleteAgent', 'agent_not_attested']] as const) {
    const folder = await mkdtemp(join(tmpdir(), 'assay-agent-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const before = await startTestAgent(server, { folder })
    await before[Symbol.asyncDispose]()
    t.ok(await stat(join(folder, 'agent-data.json')), `${act}: it kept its SVID when it stopped`)
    await server.admin.client(agentService)[act]({ id: id(before.path) })

    // What it kept is good as far as it can tell alone, so it starts; its first call to the server tells.
    const start = async () => {
      await using agent = await startTestAgent(server, { folder, token: 'not-a-token' })
      await agent.ended
    }
    await t.rejects(start(), { code }, act)
    await t.rejects(stat(join(folder, 'agent-data.json')), { code: 'ENOENT' }, `${act}: the stored SVID is gone`)
    await t.rejects(start(), { name: 'RpcError', status: 'INVALID_ARGUMENT' }, `${act}: the next start attests afresh, and needs a token`)
    await using after = await startTestAgent(server, { folder })
    await register(server, after, `/after-${act}`)
    t.same(idsOf(await stateWith(after, () => true)), [`spiffe://example.org/after-${act}`], `${act}: with a new one it serves`)
  }
})

void t.test('the pinned bundle decides whether a server is believed', async t => {
  await using server = await startTestServer()
  await using impostor = await startTestServer()
  const folder = server.folder
  const { x509Authorities } = await import('../fakes/agent-client.ts').then(({ fetchBundle }) => fetchBundle(impostor))
  const { encodePem } = await import('../../src/x509/pem.ts')
  const wrong = join(folder, 'wrong.pem')
  await writeFile(wrong, x509Authorities.map(({ asn1 }) => encodePem('CERTIFICATE', asn1)).join(''))
  await t.rejects(startTestAgent(server, { config: { trustBundlePath: wrong } }), { code: 'bootstrap_untrusted' })
  await using agent = await startTestAgent(server, { config: { trustBundlePath: undefined, insecureBootstrap: true } })
  await register(server, agent, '/web')
  t.same(idsOf(await stateWith(agent, () => true)), ['spiffe://example.org/web'])
})

void t.test('the agent\'s own SVID is renewed before half of its life', async t => {
  await using server = await startTestServer()
  const port = await freePort()
  const clock = new SkippingClock(0)
  await using agent = await startTestAgent(server, { clock, config: { prometheus: { host: '127.0.0.1', port } } })
  const agents = server.admin.client(agentService)
  const serial = async () => (await agents.listAgents({})).agents[0]?.x509svidSerialNumber
  const first = await serial()
  clock.skip(halfLifeMs)
  await eventually('it is renewed', async () => await serial() !== first, 60_000)
  await register(server, agent, '/web')
  t.same(idsOf(await stateWith(agent, () => true)), ['spiffe://example.org/web'], 'and it goes on serving')
  const rotated = /^spire_agent_agent_svid_rotate\{status="OK",host=".*"\} [1-9]/m
  let shown = ''
  // The server knows of it before the agent has its answer.
  await eventually('it to be counted', async () => {
    shown = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
    return rotated.test(shown)
  }, 60_000)
  t.match(shown, rotated, 'it is counted')
  t.match(shown, /^spire_agent_node_attestor_new_svid\{attestor="join_token",status="OK",host=".*"\} 1$/m, 'as the first one is')
})

void t.test('an API that is switched off is not offered', async t => {
  await using server = await startTestServer()
  for (const [what, config, expected] of [
    ['no SDS', { disableSdsApi: true }, { workload: 'OK', sds: 'UNIMPLEMENTED', names: ['SpiffeWorkloadAPI'] }],
    ['no Workload API', { disableWorkloadApi: true }, {
      workload: 'UNIMPLEMENTED', sds: 'OK', names: ['envoy.service.secret.v3.SecretDiscoveryService']
    }]
  ] as const) {
    await using agent = await startTestAgent(server, { config: { ...config, allowUnauthenticatedVerifiers: true } })
    const health = agent.workload.client(healthService)
    await eventually('it is healthy all the same', async () => (await health.check({})).status === ServingStatus.SERVING)
    const names: string[] = []
    const asked = (async function * () { yield { listServices: '' } })()
    for await (const { listServicesResponse } of agent.workload.client(reflectionService).serverReflectionInfo(asked)) {
      names.push(...listServicesResponse?.service.map(({ name }) => name) ?? [])
    }
    t.same({
      workload: await statusOf(agent.workload.client(workloadService).fetchX509Bundles({}, securityHeader)),
      sds: await statusOf(agent.workload.client(secretDiscoveryService).fetchSecrets({ resourceNames: ['ROOTCA'] })),
      names: names.filter(name => !name.startsWith('grpc.'))
    }, expected, what)
  }
})

import { hash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { firstOf } from '../../src/runtime/first-of.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { secretDiscoveryService } from '../../src/wire/generated/envoy-sds.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { revocationService, type RevokeRequestInit } from '../../src/wire/generated/revocation.ts'
import { workloadService, type X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { attest, identityOf, newKey, openServerChannel, type TestIdentity } from '../fakes/agent-client.ts'
import { securityHeader, startTestAgent, type TestAgent } from '../fakes/agent.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { startFollowingAgent } from '../fakes/following-agent.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startTestReplicas } from '../fakes/replicas.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'

const id = (path: string) => ({ trustDomain: 'example.org', path })
const text = (path: string) => `spiffe://example.org${path}`
const digestOf = (der: Uint8Array | undefined) => hash('sha256', der ?? '')
const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

async function register (server: TestServer, path: string, parent: string, more: object = {}): Promise<string> {
  const entry = { spiffeId: id(path), parentId: id(parent), selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }], ...more }
  const { results } = await server.admin.client(entryService).batchCreateEntry({ entries: [entry] })
  return results[0]?.entry?.id ?? ''
}

async function mint (server: TestServer, path: string): Promise<TestIdentity> {
  const key = newKey()
  const csr = createCertificateRequest(key, { uriSans: [text(path)], dnsSans: [] })
  const { svid } = await server.admin.client(svidService).mintX509SVID({ csr })
  return identityOf(svid?.certChain ?? [], key)
}

const revoke = async (server: TestServer, request: RevokeRequestInit) => {
  const { revocation } = await server.admin.client(revocationService).revoke(request)
  if (revocation === undefined) throw new Error('no revocation')
  return revocation
}

/** What the workload of this process is told: SVIDs by ID and digest, or the status of the refusal. */
async function ask ({ workload }: TestAgent): Promise<Record<string, string> | string> {
  try {
    const answer: X509SVIDResponse | undefined = await firstOf(workload.client(workloadService).fetchX509SVID({}, securityHeader))
    return Object.fromEntries(answer?.svids.map(svid => [new URL(svid.spiffeId).pathname, digestOf(leafOf(svid.x509Svid))]) ?? [])
  } catch (error) {
    return (error as { status: string }).status
  }
}

/** The leaf of a chain without an intermediate. */
function leafOf (der: Uint8Array): Uint8Array { return parseCertificate(der).raw }

void t.test('an SVID that is revoked is dropped and replaced, wherever it is', async t => {
  await using server = await startTestServer()
  await using agent = await startTestAgent(server)
  await using other = await startFollowingAgent(server)
  await register(server, '/web', agent.path)
  let before: Record<string, string> | string = ''
  await eventually('the workload has its SVID', async () => typeof (before = await ask(agent)) === 'object')
  const digest = (before as unknown as Record<string, string>)['/web'] as string

  const stream: Array<readonly string[]> = []
  const watching = (async () => {
    for await (const { svids } of agent.workload.client(workloadService).fetchX509SVID({}, securityHeader)) {
      stream.push(svids.map(svid => digestOf(svid.x509Svid)))
    }
  })().catch((error: unknown) => { stream.push([(error as { status: string }).status]) })
  await eventually('the stream has it', () => stream.length === 1)

  const revocation = await revoke(server, { svid: { digest: Buffer.from(digest, 'hex') }, reason: 'leaked' })
  t.match(revocation, { kind: 'svid', subject: text('/web'), reason: 'leaked', revokedBy: `local uid ${process.getuid?.()}` })
  t.strictSame(revocation.certificateDigests.map(hexOf), [digest])
  await eventually('another agent is told', () => other.told.some(({ revocations }) => revocations?.revocations[0]?.id === revocation.id))
  const told = other.told.flatMap(({ revocations }) => revocations?.revocations ?? [])
  t.strictSame(told.map(({ kind, subject, certificateDigests }) => [kind, subject, ...certificateDigests.map(hexOf)]),
    [['svid', text('/web'), digest]])
  let after: Record<string, string> | string = ''
  await eventually('a new one is there', async () => typeof (after = await ask(agent)) === 'object' && after['/web'] !== digest)
  await watching
  t.strictSame(stream, [[digest], ['UNAVAILABLE']], 'the open stream ended with the SVID: it was not shown on while a new one was signed')
})

void t.test('a SPIFFE ID that is revoked is nobody\'s until that is lifted', async t => {
  const { log, lines } = capturedLog()
  await using server = await startTestServer({ log })
  await using agent = await startTestAgent(server)
  await register(server, '/web', agent.path)
  await register(server, '/other', agent.path)
  await eventually('both are served', async () => Object.keys(await ask(agent)).length === 2)
  const { svids } = await agent.workload.client(workloadService).fetchJWTSVID({ audience: ['x'], spiffeId: text('/web') }, securityHeader)
  const token = svids[0]?.svid ?? ''
  const validate = () => agent.workload.client(workloadService).validateJWTSVID({ audience: 'x', svid: token }, securityHeader)
  t.equal((await validate()).spiffeId, text('/web'))

  const revocation = await revoke(server, { spiffeId: id('/web'), reason: 'compromised' })
  t.match(revocation, { kind: 'spiffe_id', subject: text('/web'), certificateDigests: { length: 1 } })
  await eventually('the workload has lost it', async () => JSON.stringify(Object.keys(await ask(agent))) === '["/other"]')
  const secrets = await agent.workload.client(secretDiscoveryService).fetchSecrets({ resourceNames: [text('/other')] })
  t.equal(secrets.resources.length, 1)
  const lost = agent.workload.client(secretDiscoveryService).fetchSecrets({ resourceNames: [text('/web')] })
  await t.rejects(lost, { status: 'INVALID_ARGUMENT', message: /example\.org\/web/ }, 'and so has SDS')
  await t.rejects(validate(), { status: 'INVALID_ARGUMENT', message: /is revoked/ }, 'nor is a token of it accepted')
  await t.rejects(mint(server, '/web'), { status: 'PERMISSION_DENIED', message: /example\.org\/web is revoked/ })
  const jwt = server.admin.client(svidService).mintJWTSVID({ id: id('/web'), audience: ['x'] })
  await t.rejects(jwt, { status: 'PERMISSION_DENIED', message: /is revoked/ })
  const { revocations } = await server.admin.client(revocationService).listRevocations({})
  t.strictSame(revocations, [revocation])
  t.match(lines.find(({ msg }) => msg === 'revoked by an operator'), {
    kind: 'spiffe_id', subject: text('/web'), certificates: 1, reason: 'compromised', revocation: revocation.id
  })

  await server.admin.client(revocationService).liftRevocation({ id: revocation.id })
  await eventually('it is served again', async () => Object.keys(await ask(agent)).length === 2)
  t.equal((await validate()).spiffeId, text('/web'))
  t.ok(lines.some(({ msg }) => msg === 'a revocation was lifted by an operator'))
})

void t.test('an agent that asks for what is revoked is refused item by item', async t => {
  await using server = await startTestServer()
  const agent = await attest(server)
  const path = new URL(parseCertificate(agent.chain[0] as Uint8Array).uriSans[0] as string).pathname
  const entries = [await register(server, '/bad', path), await register(server, '/good', path)]
  await using channel = openServerChannel(server, agent)
  const sign = async () => {
    const params = entries.map(entryId => ({ entryId, csr: createCertificateRequest(newKey()) }))
    const { results } = await channel.client(svidService).batchNewX509SVID({ params })
    return results.map(({ status, svid }) => svid === undefined ? status?.message : 'signed')
  }
  t.strictSame(await sign(), ['signed', 'signed'])
  const revocation = await revoke(server, { spiffeId: id('/bad') })
  t.equal(revocation.certificateDigests.length, 1)
  t.strictSame(await sign(), [`${text('/bad')} is revoked`, 'signed'])
  const { entries: served } = await channel.client(entryService).getAuthorizedEntries({})
  t.strictSame(served.map(entry => entry.spiffeId?.path), ['/good'], 'an agent that polls is not told of the entry any more')
  const jwt = channel.client(svidService).newJWTSVID({ entryId: entries[0], audience: ['x'] })
  await t.rejects(jwt, { status: 'PERMISSION_DENIED', message: /is revoked/ })
})

void t.test('a node that is revoked is out, with all that was issued to it', async t => {
  await using server = await startTestServer()
  await using agent = await startTestAgent(server)
  await using other = await startFollowingAgent(server)
  await register(server, '/web', agent.path)
  let served: Record<string, string> | string = ''
  await eventually('it serves', async () => typeof (served = await ask(agent)) === 'object')
  const revocation = await revoke(server, { agentId: id(agent.path), reason: 'stolen' })
  t.equal(revocation.kind, 'node')
  const digests = revocation.certificateDigests.map(hexOf)
  t.ok(digests.includes((served as unknown as Record<string, string>)['/web'] as string), 'the workload\'s')
  t.equal(digests.length, 2, 'and the agent\'s own')
  await t.rejects(agent.ended, { code: 'agent_banned' })
  await eventually('others are told', () => other.told.some(({ revocations }) => revocations?.revocations[0]?.id === revocation.id))
  await server.admin.client(revocationService).liftRevocation({ id: revocation.id })
  await eventually('and told that it is lifted', () => other.told.some(({ revocations }) => revocations?.removedIds[0] === revocation.id))
  t.match(await server.admin.client(agentService).getAgent({ id: id(agent.path) }), { banned: true }, 'lifting lets nobody in')
  t.strictSame((await server.admin.client(revocationService).listRevocations({})).revocations, [])
})

void t.test('the server itself accepts nobody who shows what is revoked', async t => {
  await using server = await startTestServer({ config: { adminIds: [parseSpiffeId(text('/admin')), parseSpiffeId(text('/root'))] } })
  const [admin, root] = [await mint(server, '/admin'), await mint(server, '/root')]
  const call = async (identity: TestIdentity) => {
    await using channel = openServerChannel(server, identity)
    return await channel.client(entryService).countEntries({})
  }
  await call(admin)
  await call(root)
  await revoke(server, { svid: { certificate: admin.chain[0] } })
  await t.rejects(call(admin), { status: 'PERMISSION_DENIED', message: /the SVID of .*\/admin with serial number .* is revoked/ })
  await call(await mint(server, '/admin'))
  await revoke(server, { spiffeId: id('/root') })
  await t.rejects(call(root), { status: 'PERMISSION_DENIED', message: /is revoked/ })
})

void t.test('a revocation outlives a restart, and an agent that comes back is told what came and went', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-revocation-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const revocation = await (async () => {
    await using server = await startTestServer({ folder })
    return await revoke(server, { spiffeId: id('/web') })
  })()
  await using server = await startTestServer({ folder })
  await t.rejects(mint(server, '/web'), { status: 'PERMISSION_DENIED', message: /is revoked/ })
  await using agent = await startFollowingAgent(server)
  t.match(agent.told[0], { snapshot: true, revocations: { revocations: [{ id: revocation.id, certificateDigests: { length: 0 } }] } },
    'an ID is denied by its name')
  const known = agent.told.length
  await agent.moveTo(server)
  t.strictSame(agent.told.slice(known).flatMap(({ revocations }) => revocations ?? []), [], 'nothing that it knows')
})

void t.test('a revocation ends by itself, and with it all that it did', async t => {
  const clock = new ManualClock(new Date())
  await using server = await startTestServer({ clock, config: { defaultX509SvidTtlSeconds: 60, defaultJwtSvidTtlSeconds: 30 } })
  await using agent = await startFollowingAgent(server)
  const [admin, revocations] = [server.admin.client(revocationService), async () => (await admin.listRevocations({})).revocations.length]
  await mint(server, '/web')
  const { id: revocationId, expiresAt } = await revoke(server, { spiffeId: id('/web') })
  await clock.advance(50_000)
  t.equal(await revocations(), 1)
  await t.rejects(mint(server, '/web'), { status: 'PERMISSION_DENIED', message: /is revoked/ })
  for (let rounds = 0; await revocations() > 0; rounds++) {
    if (rounds > 60) throw new Error('it does not end')
    // A second at a time: what is not asleep yet when the clock moves wakes that much later.
    await clock.advance(1_000)
  }
  t.ok(clock.now().getTime() <= Number(expiresAt) * 1000 + 20_000, 'soon after its last certificate')
  await mint(server, '/web')
  await eventually('agents forget it', () => agent.told.some(({ revocations }) => revocations?.removedIds[0] === revocationId))
})

void t.test('what one replica revokes, the others refuse', { skip: postgresMissing() }, async t => {
  await using postgres = await startPostgres()
  await using replicas = await startTestReplicas(await postgres.createSchema(), 2)
  const [one, two] = replicas.servers as [TestServer, TestServer]
  await using agent = await startFollowingAgent(two)
  const [, digest] = [await mint(two, '/web'), digestOf((await mint(two, '/web')).chain[0])]
  const revocation = await revoke(one, { spiffeId: id('/web') })
  t.equal(revocation.certificateDigests.length, 2, 'what another replica signed is on record')
  t.ok(revocation.certificateDigests.map(hexOf).includes(digest))
  // Even before it has heard of it: the record of what is signed meets the revocation in the database.
  await t.rejects(mint(two, '/web'), { status: 'PERMISSION_DENIED', message: /is revoked/ })
  await eventually('its agents are told', () => agent.told.some(({ revocations }) => revocations?.revocations[0]?.id === revocation.id))
  await two.admin.client(revocationService).liftRevocation({ id: revocation.id })
  await eventually('lifted there, signed for here', async () => await mint(one, '/web').then(() => true, () => false))
})

void t.test('what cannot be revoked, or not like this', async t => {
  await using server = await startTestServer()
  const agent = await attest(server)
  const [minted] = (await mint(server, '/web')).chain
  const refused: Record<string, [RevokeRequestInit, string, RegExp]> = {
    'nothing': [{}, 'INVALID_ARGUMENT', /nothing to revoke/],
    'an agent\'s SVID': [{ svid: { certificate: agent.chain[0] } }, 'INVALID_ARGUMENT', /revoke its node/],
    'an agent\'s ID': [{ spiffeId: id('/spire/agent/join_token/x') }, 'INVALID_ARGUMENT', /revoke its node/],
    'the servers': [{ spiffeId: id('/spire/server') }, 'INVALID_ARGUMENT', /the servers' own/],
    'no agent': [{ agentId: id('/web') }, 'INVALID_ARGUMENT', /./],
    'an unknown agent': [{ agentId: id('/spire/agent/join_token/x') }, 'NOT_FOUND', /agent not found/],
    'no certificate': [{ svid: { certificate: Buffer.from('x') } }, 'INVALID_ARGUMENT', /no certificate in DER/],
    'an unknown digest': [{ svid: { digest: Buffer.alloc(32) } }, 'NOT_FOUND', /the record of what was issued has no such certificate/],
    'half a digest': [{ svid: { digest: Buffer.alloc(16) } }, 'INVALID_ARGUMENT', /32 bytes, not 16/],
    'an unknown serial number': [{ svid: { serialNumber: 'ab:cd' } }, 'NOT_FOUND', /./],
    'no serial number': [{ svid: { serialNumber: 'xyz' } }, 'INVALID_ARGUMENT', /not hex/],
    'an SVID unnamed': [{ svid: {} }, 'INVALID_ARGUMENT', /one of certificate, digest and serial number/],
    'until for an SVID': [{ svid: { certificate: minted }, until: 4_000_000_000n }, 'INVALID_ARGUMENT', /for SPIFFE IDs only/],
    'until the past': [{ spiffeId: id('/web'), until: 1n }, 'INVALID_ARGUMENT', /not in the future/],
    'a long reason': [{ spiffeId: id('/web'), reason: 'x'.repeat(2_000) }, 'INVALID_ARGUMENT', /at most 1000/]
  }
  for (const [what, [request, status, message]] of Object.entries(refused)) {
    await t.rejects(revoke(server, request), { status, message }, what)
  }
  t.strictSame((await server.admin.client(revocationService).listRevocations({})).revocations, [])
})

void t.test('assay revoke', async t => {
  await using server = await startTestServer()
  await using agent = await startFollowingAgent(server)
  const folder = await mkdtemp(join(tmpdir(), 'assay-revocation-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const assay = async (...words: string[]) => await runAssay(['revoke', ...words, '-socketPath', server.config.socketPath])
  const minted = [await mint(server, '/a'), await mint(server, '/b'), await mint(server, '/c')]
  const [one, two, three] = minted.map(({ chain }) => chain[0] as Uint8Array)
  const file = join(folder, 'svid.pem')
  await writeFile(file, encodePem('CERTIFICATE', one as Uint8Array))

  t.match(await assay('svid', '-cert', file, '-reason', 'leaked\u001b', '-wait'), {
    code: 0,
    stdout: new RegExp(`Revoked\n\nRevocation ID   : [-0-9a-f]+\nSVID of         : ${text('/a')}\nCertificates    : ${digestOf(one)}\n` +
      'Reason          : leaked\\\\x1b\nRevoked by      : local uid \\d+\n[^]*1 of 1 live agent has it')
  })
  t.match(await assay('svid', '-digest', digestOf(two).match(/../g)?.join(':').toUpperCase() ?? ''), { code: 0, stdout: /example\.org\/b/ })
  const { serialNumber } = parseCertificate(three as Uint8Array)
  t.match(await assay('svid', '-serial', `0${serialNumber.toUpperCase()}`), { code: 0, stdout: /example\.org\/c/ })
  agent.mute()
  t.match(await assay('id', text('/d'), '-wait', '-wait-timeout', '300ms', '-until', '2099-01-01T00:00:00Z'), {
    code: 3, stdout: /Expires at      : 2099-01-01 00:00:00/, stderr: /not_converged/
  }, 'an agent that has not taken it over yet')
  agent.unmute()
  const node = await assay('node', agent.spiffeId, '-output', 'json', '-wait')
  t.equal(node.code, 0, 'the node itself is not waited for')
  t.match(JSON.parse(node.stdout), {
    convergence: { converged: true },
    revocation: { kind: 'node', subject: agent.spiffeId, certificate_digests: [/^[0-9a-f]{64}$/] }
  })

  const list = await assay('list', '-output', 'json')
  const { revocations } = JSON.parse(list.stdout) as { revocations: Array<{ id: string, kind: string }> }
  t.strictSame(revocations.map(({ kind }) => kind).toSorted(), ['node', 'spiffe_id', 'svid', 'svid', 'svid'])
  t.match(await assay('list'), { stdout: /^5 revocations\n\nRevocation ID/ })
  for (const revocation of revocations) t.match(await assay('lift', revocation.id), { code: 0, stdout: /^Lifted\n/ })
  t.match(await assay('list'), { code: 0, stdout: 'Nothing is revoked\n' })
  t.match(await assay('lift', 'x'), { code: 1, stderr: /no such revocation/ })
  t.match(await assay('svid'), { code: 2, stderr: /one of -cert, -digest and -serial is required/ })
  t.match(await assay('svid', '-digest', 'abc'), { code: 2, stderr: /64 digits of hex/ })
  t.match(await assay('id', 'example.org/x'), { code: 1, stderr: /spiffe_id_malformed/ })
})

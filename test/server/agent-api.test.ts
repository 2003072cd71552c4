import { mkdtemp, rm } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { svidService } from '../../src/wire/generated/server-svid.ts'
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason as Reason } from '../../src/wire/generated/types.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { attest, createJoinToken, identityOf, newKey, openServerChannel } from '../fakes/agent-client.ts'
import { capturedLog, type LogLine } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { idOf } from '../fakes/entries.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'

/** What a call was refused with. */
async function refusal (call: Promise<unknown>) {
  try {
    await call
  } catch (error) {
    if (error instanceof RpcError) {
      return { status: error.status, message: error.message, reason: error.detail(PermissionDeniedDetails)?.reason }
    }
    throw error
  }
  return undefined
}

void t.test('a join token attests one node, once', async t => {
  await using server = await startTestServer()
  const agents = server.admin.client(agentService)
  const token = await createJoinToken(server)
  const identity = await attest(server, token)
  const leaf = parseCertificate(identity.chain[0] as Uint8Array)
  t.same(leaf.uriSans, [`spiffe://example.org/spire/agent/join_token/${token}`])
  t.match(await refusal(attest(server, token)), { status: 'INVALID_ARGUMENT' }, 'a used token is refused')
  t.match(await refusal(attest(server, 'no-such-token')), { status: 'INVALID_ARGUMENT' })
  const contested = await createJoinToken(server)
  const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => attest(server, contested)))
  t.equal(outcomes.filter(outcome => outcome.status === 'fulfilled').length, 1, 'of 20 at once, one succeeds')
  const { agents: listed } = await agents.listAgents({})
  t.equal(listed.length, 2)
  t.equal(listed[0]?.attestationType, 'join_token')
  t.equal(listed[0]?.x509svidSerialNumber, BigInt(`0x${leaf.serialNumber}`).toString(), 'serial numbers are decimal on the wire')
})

void t.test('what is missing in an attestation is named (spire-surface §1.3)', async t => {
  await using server = await startTestServer()
  await using channel = openServerChannel(server)
  const csr = createCertificateRequest(newKey())
  const cases: ReadonlyArray<readonly [string, object]> = [
    ['malformed param: missing params', {}],
    ['malformed param: missing attestation data', { params: {} }],
    ['malformed param: missing attestation data type', { params: { data: { payload: Buffer.from('x') } } }],
    ['malformed param: missing attestation data payload', { params: { data: { type: 'join_token' } } }],
    ['malformed param: missing X509-SVID parameters', { params: { data: { type: 'join_token', payload: Buffer.from('x') } } }],
    ['malformed param: missing CSR', { params: { data: { type: 'join_token', payload: Buffer.from('x') }, params: {} } }]
  ]
  const send = async (message: object) => {
    for await (const _ of channel.client(agentService).attestAgent((async function * () { yield message })())) return
  }
  for (const [message, request] of cases) t.match(await refusal(send(request)), { status: 'INVALID_ARGUMENT', message }, message)
  t.match(await refusal(send({ params: { data: { type: 'tpm', payload: Buffer.from('x') }, params: { csr } } })),
    { status: 'FAILED_PRECONDITION', message: /could not find node attestor type/ })
})

void t.test('renewal: the new SVID takes over at its first use; then the old one is no longer active', async t => {
  await using server = await startTestServer()
  const first = await attest(server)
  await using old = openServerChannel(server, first)
  const key = newKey()
  const { svid } = await old.client(agentService).renewAgent({ params: { csr: createCertificateRequest(key) } })
  t.ok(await old.client(entryService).getAuthorizedEntries({}), 'the old one works until then')
  await using renewed = openServerChannel(server, identityOf(svid?.certChain ?? [], key))
  t.ok(await renewed.client(entryService).getAuthorizedEntries({}))
  t.match(await refusal(
    old.client(entryService).getAuthorizedEntries({})
  ), { status: 'PERMISSION_DENIED', reason: Reason.AGENT_NOT_ACTIVE })
})

void t.test('an agent that can attest again must do so instead of renewing (spire-surface §1.3)', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-server-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const before = await startTestServer({ folder })
  const identity = await attest(before)
  await before[Symbol.asyncDispose]()
  // A join token, the one attestor there is, never lets a node attest again: the row is made to say otherwise.
  using database = new DatabaseSync(before.config.datastoreUrl)
  t.equal(database.prepare('update agents set can_reattest = 1').run().changes, 1)

  await using server = await startTestServer({ folder })
  t.equal((await server.admin.client(agentService).listAgents({})).agents[0]?.canReattest, true)
  await using channel = openServerChannel(server, identity)
  t.match(await refusal(channel.client(agentService).renewAgent({ params: { csr: createCertificateRequest(newKey()) } })), {
    status: 'PERMISSION_DENIED', reason: Reason.AGENT_MUST_REATTEST, message: 'agent must reattest instead of renew'
  })
  t.match(await refusal(channel.client(agentService).renewAgent({})), { status: 'INVALID_ARGUMENT' }, 'what is missing is said first')
  t.ok(await channel.client(entryService).getAuthorizedEntries({}), 'it stays an agent until then')
})

void t.test('ban and eviction take effect at the next call', async t => {
  await using server = await startTestServer()
  const agents = server.admin.client(agentService)
  for (const [act, reason] of [['banAgent', Reason.AGENT_BANNED], ['deleteAgent', Reason.AGENT_NOT_ATTESTED]] as const) {
    const token = await createJoinToken(server)
    await using channel = openServerChannel(server, await attest(server, token))
    const id = { trustDomain: 'example.org', path: `/spire/agent/join_token/${token}` }
    t.ok(await channel.client(entryService).getAuthorizedEntries({}))
    await agents[act]({ id })
    t.match(await refusal(channel.client(entryService).getAuthorizedEntries({})), {
      status: 'PERMISSION_DENIED', reason, message: 'authorization denied for method /spire.api.server.entry.v1.Entry/GetAuthorizedEntries'
    }, act)
  }
  t.match(await refusal(agents.banAgent({ id: { trustDomain: 'example.org', path: '/spire/agent/nobody/x' } })), { status: 'NOT_FOUND' })
  t.match(await refusal(agents.getAgent({ id: { trustDomain: 'example.org', path: '/workload' } })), { status: 'INVALID_ARGUMENT' })
})

void t.test('an agent\'s connection does not outlive its SVID', async t => {
  const clock = new ManualClock(new Date())
  await using server = await startTestServer({ clock, config: { agentTtlSeconds: 600 } })
  await using channel = openServerChannel(server, await attest(server))
  t.ok(await channel.client(entryService).getAuthorizedEntries({}))
  await clock.advance(601_000)
  t.match(await refusal(channel.client(entryService).getAuthorizedEntries({})), { status: 'UNAUTHENTICATED' })
})

void t.test('who may call what (spire-surface §1.1)', async t => {
  await using server = await startTestServer()
  await using anonymous = openServerChannel(server)
  await using agent = openServerChannel(server, await attest(server))
  const denied = { status: 'PERMISSION_DENIED' }
  t.match(await refusal(anonymous.client(entryService).listEntries({})), denied, 'nobody lists entries without an SVID')
  t.match(await refusal(agent.client(entryService).listEntries({})), denied, 'an agent is no admin')
  t.match(await refusal(agent.client(agentService).createJoinToken({ ttl: 60 })), denied)
  t.match(await refusal(server.admin.client(entryService).getAuthorizedEntries({})), denied, 'the admin socket is no agent')
  t.match(await refusal(anonymous.client(agentService).renewAgent({})), denied)
})

void t.test('IDs in admin_ids are administrators over TLS (spire-surface §1.1)', async t => {
  await using server = await startTestServer({ config: { adminIds: [idOf('/operator')] } })
  await using operator = openServerChannel(server, await mint(server, '/operator'))
  t.ok(await operator.client(entryService).listEntries({}), 'lists entries')
  t.ok(await operator.client(agentService).createJoinToken({ ttl: 60 }), 'makes join tokens')
  const denied = { status: 'PERMISSION_DENIED', reason: undefined }
  t.match(await refusal(operator.client(entryService).getAuthorizedEntries({})), { status: 'PERMISSION_DENIED' }, 'is no agent')
  await using other = openServerChannel(server, await mint(server, '/operator/not'))
  t.match(await refusal(other.client(entryService).listEntries({})), denied, 'another ID of the domain is none')
  await using plain = await startTestServer()
  await using nobody = openServerChannel(plain, await mint(plain, '/operator'))
  t.match(await refusal(nobody.client(entryService).listEntries({})), denied, 'nor is the same ID where it is not listed')
})

/** An X509-SVID from the admin socket, as an operator makes one. */
async function mint (server: TestServer, path: string) {
  const key = newKey()
  const csr = createCertificateRequest(key, { uriSans: [idOf(path)] })
  const { svid } = await server.admin.client(svidService).mintX509SVID({ csr })
  return identityOf(svid?.certChain ?? [], key)
}

void t.test('CreateJoinToken checks what it is given, and makes the alias', async t => {
  await using server = await startTestServer()
  const agents = server.admin.client(agentService)
  t.match(await refusal(agents.createJoinToken({})), { status: 'INVALID_ARGUMENT', message: 'ttl is required, you must provide one' })
  await agents.createJoinToken({ ttl: 60, token: 'mine' })
  t.match(await refusal(
    agents.createJoinToken({ ttl: 60, token: 'mine' })
  ), { status: 'INTERNAL' }, 'a duplicate is INTERNAL, as SPIRE has it')
  t.match(await refusal(agents.createJoinToken({ ttl: 60, token: 'a/b' })), { status: 'INVALID_ARGUMENT' })
  t.match(await refusal(agents.createJoinToken(
    { ttl: 60, agentId: { trustDomain: 'example.org', path: '/spire/server' } }
  )), { status: 'INVALID_ARGUMENT' })
  const token = await createJoinToken(server, { trustDomain: 'example.org', path: '/node/one' })
  const { entries } = await server.admin.client(entryService).listEntries({})
  const nodeId = `spiffe://example.org/spire/agent/join_token/${token}`
  t.match(entries[0], { spiffeId: { path: '/node/one' }, selectors: [{ type: 'spiffe_id', value: nodeId }] })
})

void t.test('agent_spiffe_id_as_selector: a node alias may name one agent, whatever it attests by', async t => {
  for (const agentIdAsSelector of [true, false]) {
    await using server = await startTestServer({ config: { agentIdAsSelector } })
    const [token, other] = [await createJoinToken(server), await createJoinToken(server)]
    const path = `/spire/agent/join_token/${token}`
    const id = (path: string) => ({ trustDomain: 'example.org', path })
    const { results } = await server.admin.client(entryService).batchCreateEntry({ entries: [
      { spiffeId: id('/node/one'), parentId: id('/spire/server'), selectors: [{ type: 'spiffe_id', value: `spiffe://example.org${path}` }] },
      { spiffeId: id('/web'), parentId: id('/node/one'), selectors: [{ type: 'unix', value: 'uid:1' }] }
    ] })
    t.same(results.map(({ status }) => status?.code), [0, 0])
    const served = async (token: string) => {
      await using agent = openServerChannel(server, await attest(server, token))
      return (await agent.client(entryService).getAuthorizedEntries({})).entries.map(({ spiffeId }) => spiffeId?.path)
    }
    t.same(await served(token), agentIdAsSelector ? ['/web'] : [], `${agentIdAsSelector}`)
    t.same(await served(other), [], 'no other agent is meant')
    const { selectors } = await server.admin.client(agentService).getAgent({ id: id(path) })
    t.same(selectors, agentIdAsSelector ? [{ type: 'spiffe_id', value: `spiffe://example.org${path}` }] : [], 'operators see it')
  }
})

void t.test('an operator can follow an attestation in the log, and see why one failed; the token is in none of it', async t => {
  const { log, lines } = capturedLog()
  await using server = await startTestServer({ log })
  const token = await createJoinToken(server)
  const identity = await attest(server, token)
  const stepsNow = () => lines.filter(line => line['method'] === '/spire.api.server.agent.v1.Agent/AttestAgent')
  await eventually('the call has its line', () => stepsNow().some(({ msg }) => msg === 'call'))
  const steps = stepsNow()
  t.match(steps, [
    { level: 'debug', msg: 'attestation received', attestor: 'join_token' },
    { level: 'debug', msg: 'certificate request is well formed and signed by its key' },
    { level: 'debug', msg: 'join token is valid' },
    { level: 'info', msg: 'agent attested', agent: `spiffe://example.org/spire/agent/join_token/${token}` },
    { level: 'debug', msg: 'call', status: 'OK' }
  ])
  t.equal(new Set(steps.map(line => line['requestId'])).size, 1, 'one request number runs through it')
  const { connection, address } = (steps[0] as LogLine)['caller'] as { connection: string, address: string }
  const ofConnection = () => lines.filter(line => line['connection'] === connection)
  await eventually('the connection ends', async () => ofConnection().length === 3)
  t.match(ofConnection(), [
    { level: 'debug', msg: 'connection accepted', address, tls: 'TLSv1.3' },
    { level: 'debug', msg: 'client shows no certificate', address },
    { level: 'debug', msg: 'connection closed', address }
  ], 'from the connection it came over')
  const positions = ['connection accepted', 'attestation received', 'agent attested', 'connection closed'].map(message =>
    lines.findIndex(line => line['msg'] === message && (line['connection'] ?? (line['caller'] as LogLine)['connection']) === connection))
  t.same(positions, positions.toSorted((a, b) => a - b), 'in this order')

  await using agent = openServerChannel(server, identity)
  await agent.client(entryService).getAuthorizedEntries({})
  t.match(lines.find(line => line['msg'] === 'client verified'), {
    level: 'debug', spiffeId: `spiffe://example.org/spire/agent/join_token/${token}`, connection: /^tls-/, expires: /Z$/,
    serialNumber: parseCertificate(identity.chain[0] as Uint8Array).serialNumber
  }, 'to the use of its SVID')
  const unused = await createJoinToken(server)
  await attest(server, 'wrong-token').catch(() => {})
  t.match(lines.findLast(line => line['msg'] === 'attestation refused'), { level: 'warn', code: 'join_token_invalid', reason: /token/ })
  t.notMatch(JSON.stringify(lines), unused, 'a token that may still be used is not in the log')
  t.notMatch(JSON.stringify(lines), 'wrong-token')
})

import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason as reasons } from '../../src/wire/generated/types.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { attest, createJoinToken, newKey, openServerChannel } from '../fakes/agent-client.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { id, seed, selectors } from './admin/admin-client.ts'
import { agentId, checkAnswers as check, exists, internal, invalid, missing, type Row, rpcs } from './contract/answers.ts'
import { ask } from './contract/spire-services.ts'

t.test('agents, as operators see them (spire-surface §1.3)', async t => {
  await using server = await startTestServer()
  await attest(server, await tokenNamed(server, 'one'))
  await attest(server, await tokenNamed(server, 'two'))
  const count = (filter: object) => server.admin.client(agentService).countAgents({ filter })
  await check(t, server.admin, [
    ['GetAgent', 'an ID outside /spire/agent/', { id: id('/workload') }, 'INVALID_ARGUMENT'],
    ['GetAgent', 'another trust domain\'s', { id: { trustDomain: 'other.org', path: '/spire/agent/x' } }, 'INVALID_ARGUMENT'],
    ['GetAgent', 'one that is not there', { id: agentId('none') }, 'NOT_FOUND', /^agent not found$/],
    ['DeleteAgent', 'one that is not there', { id: agentId('none') }, 'NOT_FOUND'],
    ['DeleteAgent', 'an ID outside /spire/agent/', { id: id('/workload') }, 'INVALID_ARGUMENT'],
    ['BanAgent', 'one that is not there', { id: agentId('none') }, 'NOT_FOUND'],
    ['BanAgent', 'an ID outside /spire/agent/', { id: id('/workload') }, 'INVALID_ARGUMENT'],
    ['BanAgent', 'one', { id: agentId('two') }, 'OK'],
    ['CreateJoinToken', 'no ttl', { ttl: 0 }, 'INVALID_ARGUMENT', /^ttl is required, you must provide one$/],
    ['CreateJoinToken', 'a reserved ID', { ttl: 60, agentId: id('/spire/x') }, 'INVALID_ARGUMENT'],
    ['CreateJoinToken', 'a token', { ttl: 60, token: 'mine' }, 'OK'],
    ['CreateJoinToken', 'the same token', { ttl: 60, token: 'mine' }, 'INTERNAL'],
    ['ListAgents', 'an empty set of selectors', { filter: { bySelectorMatch: { selectors: [] } } }, 'INVALID_ARGUMENT'],
    ['ListAgents', 'a token that is none', { pageSize: 1, pageToken: 'x' }, 'INTERNAL', /could not parse token/]
  ])
  t.equal((await count({ byBanned: { value: true } })).count, 1)
  t.equal((await count({ byCanReattest: { value: true } })).count, 0)
  t.equal((await count({ byAttestationType: 'x509pop' })).count, 0)
  t.equal((await count({ byExpiresBefore: '2000-01-02 15:04:05 -0700 -07' })).count, 0)
  t.equal((await count({ byExpiresBefore: 'tomorrow' })).count, 2, 'what does not parse filters nothing')
  const shown = await server.admin.client(agentService).getAgent({ id: agentId('one'), outputMask: { attestationType: true } })
  t.match(shown, { id: agentId('one'), attestationType: 'join_token', x509svidSerialNumber: '' }, 'the mask keeps the ID')
})

t.test('attestation (spire-surface §1.3, §2.1)', async t => {
  await using server = await startTestServer()
  await using channel = openServerChannel(server)
  const csr = createCertificateRequest(newKey())
  const params = (type: string, payload: string, more: object = { params: { csr } }) =>
    ({ params: { data: { type, payload: Buffer.from(payload) }, ...more } })
  await attest(server, await tokenNamed(server, 'used'))
  await server.admin.client(agentService).banAgent({ id: agentId('used') })
  await server.admin.client(agentService).createJoinToken({ ttl: 60, token: 'again' })
  await check(t, channel, [
    ['AttestAgent', 'no params', {}, 'INVALID_ARGUMENT', /^malformed param: missing params/],
    ['AttestAgent', 'no data', { params: {} }, 'INVALID_ARGUMENT', /^malformed param: missing attestation data/],
    ['AttestAgent', 'no type', params('', 'x'), 'INVALID_ARGUMENT', /^malformed param: missing attestation data type/],
    ['AttestAgent', 'no payload', params('join_token', ''), 'INVALID_ARGUMENT', /^malformed param: missing attestation data payload/],
    ['AttestAgent', 'no parameters', params('join_token', 'x', {}), 'INVALID_ARGUMENT', /^malformed param: missing X509-SVID parameters/],
    ['AttestAgent', 'no CSR', params('join_token', 'x', { params: {} }), 'INVALID_ARGUMENT', /^malformed param: missing CSR/],
    ['AttestAgent', 'an unknown attestor', params('other', 'x'), 'FAILED_PRECONDITION', /could not find node attestor type/],
    ['AttestAgent', 'an unknown token', params('join_token', 'x'), 'INVALID_ARGUMENT'],
    ['AttestAgent', 'a used token', params('join_token', 'used'), 'INVALID_ARGUMENT'],
    ['AttestAgent', 'a token', params('join_token', 'again'), 'OK']
  ])
})

t.test('what an agent asks for itself and its workloads (spire-surface §1.3, §1.5, §1.6)', async t => {
  await using server = await startTestServer()
  const token = await createJoinToken(server)
  await using agent = openServerChannel(server, await attest(server, token))
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const publicKey = ec.publicKey.export({ type: 'spki', format: 'der' })
  const csr = createCertificateRequest(newKey())
  const tampered = Buffer.from(csr)
  tampered[tampered.length - 1] = (tampered.at(-1) as number) ^ 1
  const [entryId = '', elsewhere = ''] = await seed(server, [
    { spiffeId: id('/web'), parentId: agentId(token), selectors }, { spiffeId: id('/far'), parentId: agentId('other'), selectors }
  ])
  const wit = (more: object) => ({ entryId, publicKey, signingAlgorithm: 'ES256', ...more })
  await check(t, agent, [
    ['RenewAgent', 'no params', {}, 'INVALID_ARGUMENT', /^params cannot be nil$/],
    ['RenewAgent', 'no CSR', { params: {} }, 'INVALID_ARGUMENT', /^missing CSR$/],
    ['RenewAgent', 'a CSR that is none', { params: { csr: Buffer.from('x') } }, 'INVALID_ARGUMENT'],
    ['PostStatus', 'a version too long', { agentVersion: 'v'.repeat(256) }, 'INVALID_ARGUMENT'],
    ['PostStatus', 'a version', { agentVersion: 'v'.repeat(255) }, 'OK'],
    ['SyncAuthorizedEntries', 'ids at first', { ids: ['x'] }, 'INVALID_ARGUMENT', /specifying IDs on initial request is not supported/],
    ['SyncAuthorizedEntries', 'a mask without revisions', { outputMask: { hint: true } }, 'INVALID_ARGUMENT', /number cannot be masked/],
    ['BatchNewX509SVID', 'nothing', { params: [] }, 'INVALID_ARGUMENT', /^missing parameters$/],
    ['BatchNewX509SVID', 'item by item', { params: [
      { csr }, { entryId }, { entryId, csr: Buffer.from('x') }, { entryId, csr: tampered }, { entryId: 'none', csr },
      { entryId: elsewhere, csr }, { entryId, csr }
    ] }, [invalid, invalid, invalid, invalid, missing, missing, 0], /^missing entry ID\nmissing CSR\n[^]*\nOK$/],
    ['NewJWTSVID', 'no audience', { entryId }, 'INVALID_ARGUMENT'],
    ['NewJWTSVID', 'another agent\'s entry', { entryId: elsewhere, audience: ['a'] }, 'NOT_FOUND', /^entry not found or not authorized$/],
    ['NewJWTSVID', 'its own', { entryId, audience: ['a'] }, 'OK'],
    ['BatchNewWITSVID', 'nothing', { params: [] }, 'INVALID_ARGUMENT', /^missing parameters$/],
    ['BatchNewWITSVID', 'item by item', { params: [
      wit({ entryId: '' }), wit({ publicKey: Buffer.alloc(0) }), wit({ entryId: 'none' }), wit({ publicKey: Buffer.from('x') }),
      wit({ signingAlgorithm: 'ES384' }), wit({})
    ] }, [invalid, invalid, missing, invalid, invalid, internal], /missing public key[^]*WIT key is not available/]
  ])
})

t.test('entries (spire-surface §1.5, §3)', async t => {
  await using server = await startTestServer()
  const good = { spiffeId: id('/web'), parentId: id('/node'), selectors }
  const [stored = ''] = await seed(server, [good])
  const filter = (part: object) => ({ filter: part })
  await check(t, server.admin, [
    ['GetEntry', 'no id', {}, 'INVALID_ARGUMENT', /^missing ID$/],
    ['GetEntry', 'one that is not there', { id: 'none' }, 'NOT_FOUND', /^entry not found$/],
    ...['ListEntries', 'CountEntries'].flatMap((method): Row[] => [
      [method, 'an empty set of selectors', filter({ bySelectors: { selectors: [] } }), 'INVALID_ARGUMENT'],
      [method, 'an empty set of domains', filter({ byFederatesWith: { trustDomains: [] } }), 'INVALID_ARGUMENT'],
      [method, 'a parent that is none', filter({ byParentId: {} }), 'INVALID_ARGUMENT'],
      [method, 'a SPIFFE ID that is none', filter({ bySpiffeId: {} }), 'INVALID_ARGUMENT'],
      [method, 'an empty hint', filter({ byHint: { value: '' } }), 'OK'],
      [method, 'downstream=false', filter({ byDownstream: { value: false } }), 'OK']
    ]),
    ['BatchCreateEntry', 'one alike', { entries: [good] }, [exists], /^similar entry already exists$/],
    ['BatchCreateEntry', 'mistakes', { entries: [
      { ...good, spiffeId: id('/spire/x') }, { ...good, selectors: [] }, { ...good, parentId: undefined },
      { ...good, hint: 'h'.repeat(1025) }, { ...good, dnsNames: ['-a'] }, { ...good, spiffeId: id('/t'), x509SvidTtl: -1 },
      { ...good, spiffeId: id('/f'), federatesWith: ['none.test'] }, { ...good, id: stored, spiffeId: id('/i') }
    ] }, [invalid, invalid, invalid, invalid, invalid, invalid, internal, exists], /hint is too long, max length is 1024 characters/],
    ['BatchUpdateEntry', 'mistakes', { entries: [{ ...good }, { ...good, id: 'none' }, { ...good, id: stored, selectors: [] }] },
      [missing, missing, invalid]],
    ['BatchDeleteEntry', 'mistakes', { ids: ['', 'none', stored] }, [invalid, missing, 0], /^missing entry ID\nentry not found\nOK$/]
  ])
})

t.test('why an agent is refused, as its kind reads it (spire-surface §1.1)', async t => {
  await using server = await startTestServer()
  const renew = rpcs.get('GetAuthorizedEntries') as NonNullable<ReturnType<typeof rpcs.get>>
  const reasonFor = async (name: string, change: (id: { trustDomain: string, path: string }) => Promise<unknown>) => {
    await using channel = openServerChannel(server, await attest(server, await tokenNamed(server, name)))
    t.equal((await ask(channel, renew)).error, undefined, `${name} is served at first`)
    await change(agentId(name))
    return (await ask(channel, renew)).error?.detail(PermissionDeniedDetails)?.reason
  }
  const agents = server.admin.client(agentService)
  t.equal(await reasonFor('banned', id => agents.banAgent({ id })), reasons.AGENT_BANNED)
  t.equal(await reasonFor('evicted', id => agents.deleteAgent({ id })), reasons.AGENT_NOT_ATTESTED)
})

t.test('rates are per method and per client (spire-surface §1.2)', async t => {
  await using server = await startTestServer({ config: { ratelimit: { attestation: true, signing: true } } })
  await using agent = openServerChannel(server, await attest(server))
  const csr = createCertificateRequest(newKey())
  const params = Array.from({ length: 501 }, () => ({ entryId: 'x', csr }))
  await check(t, agent, [
    ['BatchNewX509SVID', 'more than a second holds', { params }, 'RESOURCE_EXHAUSTED', /rate \(501\) exceeds burst size \(500\)/]
  ])
})

async function tokenNamed (server: TestServer, token: string): Promise<string> {
  return (await server.admin.client(agentService).createJoinToken({ ttl: 600, token })).value
}

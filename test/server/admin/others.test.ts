import t from 'tap'
import { encodeBundle } from '../../../src/wire/bundle-codec.ts'
import { clusterService, serviceRegistryService } from '../../../src/wire/generated/cluster.ts'
import { revocationService } from '../../../src/wire/generated/revocation.ts'
import { agentService } from '../../../src/wire/generated/server-agent.ts'
import { federationService } from '../../../src/wire/generated/federation.ts'
import { bundleService } from '../../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../../src/wire/generated/server-local-authority.ts'
import { svidService } from '../../../src/wire/generated/server-svid.ts'
import { trustDomainService } from '../../../src/wire/generated/server-trust-domain.ts'
import { encodeService } from '../../../src/wire/service-codec.ts'
import { createCertificateRequest } from '../../../src/x509/certificate-request.ts'
import { attest, createJoinToken, newKey, openServerChannel } from '../../fakes/agent-client.ts'
import { createTestAuthority } from '../../fakes/authority.ts'
import { testAdminRoles } from '../../fakes/roles.ts'
import { startTestServer, type TestServer } from '../../fakes/server.ts'
import { makeServiceDraft } from '../../fakes/services.ts'
import { id, openAs, seed, statuses, webOf } from './admin-client.ts'

const denied = { name: 'RpcError', status: 'PERMISSION_DENIED' }
const missing = { name: 'RpcError', status: 'NOT_FOUND' }
const member = 'spiffe://example.org/ci/team-a'
const ids = ['spiffe://example.org/team-a/*']

void t.test('what no role grants is refused as a whole, whatever entries one may write', async t => {
  const scope = { ids, parents: ['*'], selectors: ['*'] }
  const roles = testAdminRoles({ name: 'team-a', members: [member], verbs: ['entries.write'], scope })
  await using server = await startTestServer({ config: { roles } })
  await using channel = await openAs(server, '/ci/team-a')
  const csr = createCertificateRequest(newKey(), { uriSans: ['spiffe://example.org/team-a/web'] })
  const calls: Record<string, () => Promise<unknown>> = {
    'mint an X509-SVID': () => channel.client(svidService).mintX509SVID({ csr }),
    'mint a JWT-SVID': () => channel.client(svidService).mintJWTSVID({ id: id('/team-a/web'), audience: ['x'] }),
    'append to the bundle': () => channel.client(bundleService).appendBundle({}),
    'prepare an authority': () => channel.client(localAuthorityService).prepareX509Authority({}),
    'read authorities': () => channel.client(localAuthorityService).getX509AuthorityState({}),
    'make a join token': () => channel.client(agentService).createJoinToken({ ttl: 60 }),
    'list agents': () => channel.client(agentService).listAgents({}),
    'list entries': () => channel.client(entryService).listEntries({}),
    'list services': () => channel.client(serviceRegistryService).listServices({}),
    'list bundles': () => channel.client(bundleService).listFederatedBundles({}),
    'list relationships': () => channel.client(trustDomainService).listFederationRelationships({}),
    'refresh a bundle': () => channel.client(trustDomainService).refreshBundle({ trustDomain: 'partner.test' }),
    'raise the bundle\'s number': () => channel.client(federationService).raiseBundleSequence({ sequenceNumber: 9 }),
    'list revocations': () => channel.client(revocationService).listRevocations({}),
    'see the cluster': () => channel.client(clusterService).getStatus({})
  }
  for (const [name, call] of Object.entries(calls)) await t.rejects(call(), { ...denied, message: /no role of yours grants/ }, name)
  await using stranger = await openAs(server, '/ci/team-ab')
  await t.rejects(stranger.client(entryService).listEntries({}), { ...denied, message: /authorization denied for/ }, 'no role')
})

void t.test('join tokens: without an ID, with one inside, with one outside, chosen', async t => {
  const roles = testAdminRoles(
    { name: 'joins', members: [member], verbs: ['tokens.create', 'tokens.alias'], scope: { ids } },
    { name: 'plain', members: ['spiffe://example.org/ci/plain'], verbs: ['tokens.create'] })
  await using server = await startTestServer({ config: { roles } })
  await using channel = await openAs(server, '/ci/team-a')
  const tokens = channel.client(agentService)
  t.ok((await tokens.createJoinToken({ ttl: 60 })).value)
  t.ok((await tokens.createJoinToken({ ttl: 60, agentId: id('/team-a/node') })).value)
  await t.rejects(tokens.createJoinToken({ ttl: 60, agentId: id('/team-b/node') }), { ...denied, message: /SPIFFE ID is outside/ })
  await t.rejects(tokens.createJoinToken({ ttl: 60, token: 'mine' }), { ...denied, message: /agent ID is outside/ },
    'who could name a token again would be the agent that used it')
  await using other = await openAs(server, '/ci/plain')
  t.ok((await other.client(agentService).createJoinToken({ ttl: 60 })).value)
  const aliased = other.client(agentService).createJoinToken({ ttl: 60, agentId: id('/team-a/node') })
  await t.rejects(aliased, denied, 'an alias is a grant of its own')
  const { entries } = await server.admin.client(entryService).listEntries({})
  t.same(entries.map(({ spiffeId }) => spiffeId?.path), ['/team-a/node'], 'of what was refused nothing is left')
})

void t.test('agents are listed, counted, shown, banned and evicted within the scope', async t => {
  const scope = { agents: ['spiffe://example.org/spire/agent/join_token/mine'] }
  const roles = testAdminRoles({ name: 'team-a', members: [member], verbs: ['agents.read', 'agents.ban'], scope })
  await using server = await startTestServer({ config: { roles } })
  const token = async (value: string) => (await server.admin.client(agentService).createJoinToken({ ttl: 600, token: value })).value
  await attest(server, await token('mine'))
  await attest(server, await createJoinToken(server))
  await attest(server, await token('mine2'))
  await using channel = await openAs(server, '/ci/team-a')
  const agents = channel.client(agentService)
  t.equal((await agents.countAgents({})).count, 1)
  t.same((await agents.listAgents({ pageSize: 1 })).agents.map(agent => agent.id?.path), ['/spire/agent/join_token/mine'])
  await t.rejects(agents.getAgent({ id: id('/spire/agent/join_token/mine2') }), missing)
  await t.rejects(agents.banAgent({ id: id('/spire/agent/join_token/mine2') }), { ...denied, message: /agent ID is outside/ })
  await t.rejects(agents.deleteAgent({ id: id('/spire/agent/join_token/mine') }), { ...denied, message: /agents.evict/ })
  await agents.banAgent({ id: id('/spire/agent/join_token/mine') })
  t.equal((await server.admin.client(agentService).countAgents({ filter: { byBanned: { value: true } } })).count, 1)
})

async function setBundles (server: TestServer, ...names: string[]) {
  const bundle = await Promise.all(names.map(async name => encodeBundle((await createTestAuthority(name)).bundle)))
  await server.admin.client(bundleService).batchSetFederatedBundle({ bundle })
}

void t.test('federated bundles: only those of the scope, and none of a domain whose members administer more', async t => {
  const roles = testAdminRoles({
    name: 'team-a', members: [member], verbs: ['bundles.read', 'bundles.write'], scope: { federates_with: ['partner.test', 'boss.test'] }
  }, { name: 'ops', members: ['spiffe://boss.test/ops/*'], verbs: ['cluster.read'] })
  await using server = await startTestServer({ config: { roles } })
  await setBundles(server, 'other.test', 'partner.test', 'boss.test', 'third.test')
  await seed(server, [{ ...webOf('team-b'), federatesWith: ['partner.test'] }])
  await using channel = await openAs(server, '/ci/team-a')
  const bundles = channel.client(bundleService)
  t.equal((await bundles.countBundles({})).count, 3, 'the two, and this trust domain\'s own, which is everybody\'s to read')
  const listed = await bundles.listFederatedBundles({ pageSize: 1 })
  t.same(listed.bundles.map(({ trustDomain }) => trustDomain), ['partner.test'], 'the first page is full')
  const whole = await bundles.listFederatedBundles({})
  t.same(whole.bundles.map(({ trustDomain }) => trustDomain), ['partner.test', 'boss.test'])
  t.equal((await bundles.getFederatedBundle({ trustDomain: 'partner.test' })).trustDomain, 'partner.test')
  await t.rejects(bundles.getFederatedBundle({ trustDomain: 'other.test' }), missing)
  const names = ['partner.test', 'other.test', 'boss.test']
  const bundle = await Promise.all(names.map(async name => encodeBundle((await createTestAuthority(name)).bundle)))
  for (const results of [
    (await bundles.batchSetFederatedBundle({ bundle })).results, (await bundles.batchUpdateFederatedBundle({ bundle })).results
  ]) t.same(statuses(results), [0, 7, 7])
  t.same(statuses((await bundles.batchCreateFederatedBundle({ bundle })).results), [6, 7, 7])
  const remove = async (mode: number, trustDomains: string[]) =>
    statuses((await bundles.batchDeleteFederatedBundle({ trustDomains, mode })).results)
  t.same(await remove(2, ['partner.test']), [7], 'entries that federate are not the bundle\'s writer\'s to change')
  t.same(await remove(0, ['partner.test', 'other.test', 'boss.test']), [9, 7, 7])
})

void t.test('federation relationships: only those of the scope, and none with a domain whose members administer more', async t => {
  const scope = { federates_with: ['partner.test', 'new.test', 'boss.test'] }
  const roles = testAdminRoles(
    { name: 'team-a', members: [member], verbs: ['federation.read', 'federation.write'], scope },
    { name: 'ops', members: ['spiffe://boss.test/ops/*'], verbs: ['cluster.read'] },
    { name: 'writer', members: ['spiffe://example.org/ci/w'], verbs: ['federation.write', 'federation.admin', 'bundles.write'], scope })
  await using server = await startTestServer({ config: { roles } })
  const to = (...names: string[]) => names.map(trustDomain => ({ trustDomain, bundleEndpointUrl: `https://${trustDomain}`, httpsWeb: {} }))
  await server.admin.client(trustDomainService).batchCreateFederationRelationship({
    federationRelationships: to('other.test', 'partner.test', 'third.test', 'boss.test')
  })
  await using channel = await openAs(server, '/ci/team-a')
  const api = channel.client(trustDomainService)
  const listed = await api.listFederationRelationships({ pageSize: 1 })
  t.same(listed.federationRelationships.map(({ trustDomain }) => trustDomain), ['partner.test'], 'the first page is full')
  const whole = await api.listFederationRelationships({})
  t.same(whole.federationRelationships.map(({ trustDomain }) => trustDomain), ['partner.test', 'boss.test'])
  t.equal((await api.getFederationRelationship({ trustDomain: 'partner.test' })).trustDomain, 'partner.test')
  await t.rejects(api.getFederationRelationship({ trustDomain: 'other.test' }), missing)
  const names = ['partner.test', 'other.test', 'unknown.test', 'boss.test', 'new.test']
  const federationRelationships = to(...names)
  t.same(statuses((await api.batchUpdateFederationRelationship({ federationRelationships })).results), [0, 7, 7, 7, 13],
    'whether one is there is not told to who may not write it')
  t.same(statuses((await api.batchCreateFederationRelationship({ federationRelationships })).results), [13, 7, 7, 7, 0])
  const trustDomainBundle = encodeBundle((await createTestAuthority('new.test')).bundle)
  const withBundle = { federationRelationships: to('new.test').map(one => ({ ...one, trustDomainBundle })) }
  t.same(statuses((await api.batchUpdateFederationRelationship(withBundle)).results), [7], 'a bundle is not this verb\'s to write')
  await using writer = await openAs(server, '/ci/w')
  const other = writer.client(trustDomainService)
  t.same(statuses((await other.batchUpdateFederationRelationship(withBundle)).results), [0], 'but of who has both')
  t.same(statuses((await other.batchUpdateFederationRelationship({ federationRelationships: to('boss.test') })).results), [0])
  await t.rejects(other.listFederationRelationships({}), denied)
  await t.rejects(api.refreshBundle({ trustDomain: 'other.test' }), missing)
  await t.rejects(api.refreshBundle({ trustDomain: 'boss.test' }), denied)
  await t.rejects(api.refreshBundle({ trustDomain: 'partner.test' }), { name: 'RpcError', code: 'bundle_endpoint_unreachable' })
  t.same(statuses((await api.batchDeleteFederationRelationship({ trustDomains: names })).results), [0, 7, 7, 7, 0])
})

void t.test('services: who serves them and what they are called is within', async t => {
  const roles = testAdminRoles({
    name: 'team-a', members: [member], verbs: ['services.read', 'services.write'],
    scope: { ids, service_names: ['*.team-a.internal'], federates_with: [] }
  })
  await using server = await startTestServer({ config: { roles } })
  const mine = { name: 'web.team-a.internal', spiffeIds: ['spiffe://example.org/team-a/web'] }
  const theirs = { name: 'web.team-b.internal', spiffeIds: ['spiffe://example.org/team-b/web'] }
  const encode = (...drafts: Parameters<typeof makeServiceDraft>[0][]) => drafts.map(draft => encodeService(makeServiceDraft(draft)))
  await server.admin.client(serviceRegistryService).batchCreateService({ services: encode({ ...theirs, id: 'theirs' }) })
  await using channel = await openAs(server, '/ci/team-a')
  const services = channel.client(serviceRegistryService)
  const created = await services.batchCreateService({ services: encode(
    { ...mine, id: 'mine' }, { ...mine, name: 'web.team-ab.internal' }, { ...mine, name: 'x.team-a.internal', spiffeIds: theirs.spiffeIds },
    { ...mine, name: 'y.team-a.internal', address: '10.96.0.9' }
  ) })
  t.same(statuses(created.results), [0, 7, 7, 7])
  t.match(created.results[3]?.status?.message, /services.address/)
  const updated = await services.batchUpdateService({ services: encode(
    { ...mine, id: 'mine', inbound: 'permissive' }, { ...mine, id: 'mine', spiffeIds: theirs.spiffeIds },
    { ...mine, id: 'theirs', name: 'z.team-a.internal' }
  ) })
  t.same(statuses(updated.results), [0, 7, 5])
  t.same((await services.listServices({})).services.map(({ service }) => service?.id), ['mine'])
  await t.rejects(services.getService({ name: theirs.name }), missing)
  t.same(statuses((await services.batchDeleteService({ ids: ['theirs', 'mine'] })).results), [5, 0])
})

void t.test('revocations and minted SVIDs', async t => {
  const roles = testAdminRoles({
    name: 'team-a', members: [member], verbs: ['revocations.read', 'revocations.revoke', 'svids.mint'],
    scope: { ids: [...ids, 'spiffe://example.org/boss'] }
  })
  await using server = await startTestServer({ config: { roles } })
  await seed(server, [{ ...webOf('x'), spiffeId: id('/boss'), admin: true }])
  await server.admin.client(revocationService).revoke({ spiffeId: id('/team-b/web'), reason: 'x' })
  await using channel = await openAs(server, '/ci/team-a')
  const revocations = channel.client(revocationService)
  await t.rejects(revocations.revoke({ spiffeId: id('/team-b/db') }), { ...denied, message: /SPIFFE ID is outside/ })
  const { revocation } = await revocations.revoke({ spiffeId: id('/team-a/old') })
  t.same((await revocations.listRevocations({})).revocations.map(({ subject }) => subject), ['spiffe://example.org/team-a/old'])
  await t.rejects(revocations.liftRevocation({ id: revocation?.id }), { ...denied, message: /revocations.lift/ })
  const svids = channel.client(svidService)
  const csr = (path: string, ...dnsSans: string[]) =>
    createCertificateRequest(newKey(), { uriSans: [`spiffe://example.org${path}`], dnsSans })
  t.ok((await svids.mintX509SVID({ csr: csr('/team-a/web') })).svid)
  await t.rejects(svids.mintX509SVID({ csr: csr('/team-b/web') }), denied)
  await t.rejects(svids.mintX509SVID({ csr: csr('/team-a/web', 'db.internal') }), { ...denied, message: /DNS name is outside/ })
  await t.rejects(svids.mintX509SVID({ csr: csr('/boss') }), { ...denied, message: /entries.admin/ }, 'an administrator\'s ID')
  await t.rejects(svids.mintJWTSVID({ id: id('/team-b/x'), audience: ['x'] }), { ...denied, message: /SPIFFE ID is outside/ })
})

void t.test('a user of the admin socket whose uid has a role has no more; others have all, unless a role is required', async t => {
  const uid = process.getuid?.() ?? 0
  const scope = { ids, parents: ['*'], selectors: ['*'] }
  const roles = testAdminRoles({ name: 'team-a', uids: [uid], verbs: ['entries.read', 'entries.write'], scope })
  await using server = await startTestServer({ config: { roles } })
  const entries = server.admin.client(entryService)
  const { results } = await entries.batchCreateEntry({ entries: [webOf('team-a'), webOf('team-b')] })
  t.same(statuses(results), [0, 7])
  await t.rejects(server.admin.client(agentService).listAgents({}), denied)
  await using other = await startTestServer({ config: { roles: testAdminRoles({ name: 'x', uids: [uid + 1], verbs: ['cluster.read'] }) } })
  t.equal((await other.admin.client(agentService).countAgents({})).count, 0, 'a uid without a role')
  await using strict = await startTestServer({ config: { socketRequiresRole: true } })
  t.equal((await strict.admin.client(agentService).countAgents({})).count, 0, 'the server\'s own user')
})

void t.test('members of a federated trust domain, and admins beside roles', async t => {
  const partner = await createTestAuthority('partner.test')
  const roles = testAdminRoles({
    name: 'partner', members: ['spiffe://partner.test/ops/*'], verbs: ['entries.read'], scope: { ids: ['spiffe://example.org/shared/*'] }
  }, { name: 'team-a', members: [member], verbs: ['entries.read'], scope: { ids } })
  await using server = await startTestServer({ config: { roles } })
  await server.admin.client(bundleService).batchSetFederatedBundle({ bundle: [encodeBundle(partner.bundle)] })
  await seed(server, [webOf('shared'), webOf('team-a'), { ...webOf('x'), spiffeId: id('/ci/team-a'), admin: true }])
  await using channel = openServerChannel(server, await partner.issue('/ops/jane'))
  t.same((await channel.client(entryService).listEntries({})).entries.map(({ spiffeId }) => spiffeId?.path), ['/shared/web'])
  await using stranger = openServerChannel(server, await partner.issue('/web'))
  await t.rejects(stranger.client(entryService).listEntries({}), { name: 'RpcError' }, 'no member of a role, as before')
  await using admin = await openAs(server, '/ci/team-a')
  t.equal((await admin.client(entryService).countEntries({})).count, 3, 'who has an admin entry may do all, whatever role beside it')
})

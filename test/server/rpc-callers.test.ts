import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { healthService } from '../../src/wire/generated/health.ts'
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason as reasons } from '../../src/wire/generated/types.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { attest, openServerChannel } from '../fakes/agent-client.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'
import { id, openAs, seed, selectors } from './admin/admin-client.ts'
import { callersOf } from './contract/callers.ts'
import { ask, spireRpcs, type Rpc } from './contract/spire-services.ts'

const rpcs = await spireRpcs()
const ofServer = rpcs.filter(({ path }) => path.startsWith('/spire.api.server.'))
const ofAgent = rpcs.filter(rpc => !ofServer.includes(rpc))

/** What the contract has as always UNIMPLEMENTED (spire-surface §1.4, §1.6, §1.8). */
const notOffered = new Set([
  'PublishWITAuthority', 'MintWITSVID', 'GetWITAuthorityState',
  ...['Prepare', 'Activate', 'Taint', 'Revoke'].map(verb => `${verb}WITAuthority`)
])

/** What an empty request to whoever may call is answered with, where that is not success. */
const refusedWhenEmpty: Readonly<Record<string, string>> = {
  ...Object.fromEntries([...notOffered].map(name => [name, 'UNIMPLEMENTED'])),
  ...Object.fromEntries([
    'GetAgent', 'DeleteAgent', 'BanAgent', 'AttestAgent', 'RenewAgent', 'CreateJoinToken', 'AppendBundle', 'PublishJWTAuthority',
    'GetFederatedBundle', 'GetEntry', 'MintX509SVID', 'MintJWTSVID', 'BatchNewX509SVID', 'BatchNewWITSVID', 'NewDownstreamX509CA',
    'GetFederationRelationship', 'RefreshBundle', 'ActivateJWTAuthority', 'ActivateX509Authority', 'TaintJWTAuthority',
    'TaintX509Authority', 'RevokeJWTAuthority', 'RevokeX509Authority', 'SetLogLevel'
  ].map(name => [name, 'INVALID_ARGUMENT'])),
  NewJWTSVID: 'NOT_FOUND', TaintX509UpstreamAuthority: 'FAILED_PRECONDITION', RevokeX509UpstreamAuthority: 'FAILED_PRECONDITION'
}

t.test('the 70 RPCs of SPIRE\'s API are those of its descriptors, each with its callers (spire-surface §1.0)', async t => {
  t.equal(ofServer.length, 62)
  t.equal(ofAgent.length, 8)
  t.same(ofServer.filter(({ path }) => callersOf[path] === undefined).map(({ path }) => path), [])
  const names = new Set(rpcs.map(({ method }) => method.name))
  t.same(Object.keys(refusedWhenEmpty).filter(name => !names.has(name)), [], 'no row of this file names what is not there')
})

t.test('every RPC of the server, asked by everybody: who may gets the contract\'s answer, others its refusal', async t => {
  await using scope = new AsyncDisposableStack()
  const server = scope.use(await startTestServer({ config: { adminIds: [parseSpiffeId('spiffe://example.org/configured')] } }))
  const parentId = id('/spire/agent/join_token/nobody')
  await seed(server, [
    { spiffeId: id('/registered'), parentId, selectors, admin: true }, { spiffeId: id('/nested'), parentId, selectors, downstream: true },
    { spiffeId: id('/workload'), parentId, selectors }
  ])
  const callers: ReadonlyArray<readonly [name: string, letter: string, channel: Channel]> = [
    ['the local socket', 'U', server.admin],
    ['an admin by configuration', 'A', scope.use(await openAs(server, '/configured'))],
    ['an admin by entry', 'A', scope.use(await openAs(server, '/registered'))],
    ['a downstream server', 'D', scope.use(await openAs(server, '/nested'))],
    ['an agent', 'G', scope.use(openServerChannel(server, await attest(server)))],
    ['a workload', '', scope.use(await openAs(server, '/workload'))],
    ['who shows no certificate', '', scope.use(openServerChannel(server))]
  ]
  for (const rpc of ofServer) {
    const allowed = callersOf[rpc.path]?.split(' ') ?? []
    for (const [name, letter, channel] of callers) {
      const { answer, error } = await ask(channel, rpc)
      const what = `${rpc.method.name} by ${name}`
      if (allowed.includes('*') || allowed.includes(letter)) {
        t.equal(error?.status ?? 'OK', refusedWhenEmpty[rpc.method.name] ?? 'OK', what)
        continue
      }
      t.equal(answer, undefined, what)
      if (callersOf[rpc.path] === 'U') {
        t.equal(error?.status, 'UNIMPLEMENTED', `${what}: it is there on the local socket alone`)
        continue
      }
      t.match(error, { status: 'PERMISSION_DENIED', message: `authorization denied for method ${rpc.path}` }, what)
      t.equal(error?.detail(PermissionDeniedDetails)?.reason, reasonOf(rpc, name), `${what}: the reason`)
    }
  }
  const health = { service: healthService, key: 'list', method: healthService.methods.list, path: '/grpc.health.v1.Health/List' }
  t.equal((await ask(server.admin, { ...health, key: 'check', method: healthService.methods.check })).error, undefined)
  for (const key of ['list', 'watch'] as const) {
    const { error } = await ask(server.admin, { ...health, key, method: healthService.methods[key] })
    t.equal(error?.status, 'UNIMPLEMENTED', `Health/${key} (spire-surface §1.9)`)
  }
})

/** Why SPIRE's agents are told that they are refused: only where an agent might have been let in. */
function reasonOf ({ path }: Rpc, caller: string): number | undefined {
  const isMember = caller !== 'the local socket' && caller !== 'who shows no certificate'
  return isMember && callersOf[path]?.split(' ').includes('G') === true ? reasons.AGENT_NOT_ATTESTED : undefined
}

t.test('every RPC of the agent\'s admin socket is answered; none is unimplemented (spire-surface §1.10)', async t => {
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'assay-rpcs-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const server = scope.use(await startTestServer())
  const adminSocketPath = join(folder, 'admin', 'admin.sock')
  scope.use(await startTestAgent(server, { config: { adminSocketPath, authorizedDelegates: [parseSpiffeId('spiffe://example.org/d')] } }))
  const channel = scope.use(openUnixChannel(adminSocketPath))
  const expected: Readonly<Record<string, string>> = {
    SetLogLevel: 'INVALID_ARGUMENT', FetchJWTSVIDs: 'INVALID_ARGUMENT', SubscribeToX509SVIDs: 'PERMISSION_DENIED',
    SubscribeToX509Bundles: 'PERMISSION_DENIED', SubscribeToJWTBundles: 'PERMISSION_DENIED'
  }
  const needsEntries = ofAgent.find(({ method }) => method.name === 'SubscribeToX509Bundles') as Rpc
  await eventually('the first synchronisation', async () => (await ask(channel, needsEntries)).error?.status !== 'UNAVAILABLE')
  for (const rpc of ofAgent) {
    const { error } = await ask(channel, rpc)
    t.equal(error?.status ?? 'OK', expected[rpc.method.name] ?? 'OK', rpc.path)
    if (error?.status === 'PERMISSION_DENIED') t.equal(error.message, 'no identity issued', rpc.path)
  }
})

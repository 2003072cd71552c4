import t from 'tap'
import { meshPolicies } from '../../src/agent/mesh-policies.ts'
import { openNodeAuthorization } from '../../src/agent/node-authorization.ts'
import type { NodePolicyState } from '../../src/agent/node-policies.ts'
import { PolicyEngine } from '../../src/authz/policy/policy-engine.ts'
import { readPolicies } from '../../src/authz/policy/read-policies.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { Watchable } from '../../src/runtime/watchable.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { ManualClock } from '../fakes/clock.ts'
import { until } from '../fakes/envoy.ts'
import { HeldConnections } from '../fakes/held-connections.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { MeshRig } from './mesh-rig.ts'

const skip = noNamespaces()
const b = '10.77.0.3'
const ends = '2026-06-01T00:00:00Z'

function policies (): NodePolicyState {
  const set = readPolicies([{ name: 'test', text: JSON.stringify([
    { apiVersion: 'assay/v1', kind: 'Settings', trustDomain: 'lab.test', defaultAction: 'allow' },
    { apiVersion: 'assay/v1', kind: 'FederationScope', trustDomain: 'partner.test', accept: ['spiffe://partner.test/*'], until: ends },
    { apiVersion: 'assay/v1', kind: 'FederationScope', trustDomain: 'second.test', accept: ['spiffe://second.test/*'] }
  ]) }])
  return { kind: 'set', version: 1, revision: set.revision, engine: new PolicyEngine(set) }
}

void t.test('a relationship that ends takes its connections with it, those of bytes too', { skip, timeout: 240_000 }, async t => {
  await using rig = await MeshRig.open()
  await using scope = new AsyncDisposableStack()
  const clock = new ManualClock('2026-05-31T23:59:00Z')
  const state = new Watchable(policies())
  scope.use(await openNodeAuthorization({
    policies: { state: state.value }, path: rig.authorizationSocket, takeOver: false, clock, log: silentLogger
  }))
  const stop = new AbortController()
  const telling = (async () => { for await (const told of meshPolicies(state, clock, stop.signal)) rig.policies.set(told) })()
  scope.defer(async () => {
    stop.abort()
    await telling
  })
  const [partner, second] = await Promise.all(['partner.test', 'second.test'].map(name => createTestAuthority(name)))
  await rig.pod('b', b)
  await rig.identify('b', '/b', { federated: [partner!.bundle, second!.bundle] })
  await rig.startEnvoy()
  await rig.serving('b')
  rig.directory.set({ endpoints: [], services: [{
    name: 'web', address: '10.99.0.1', spiffeIds: [parseSpiffeId('spiffe://lab.test/b')],
    ports: [{ port: 81, targetPort: 8081, protocol: 'http2' }, { port: 90, targetPort: 9000, protocol: 'tcp' }],
    callers: ['spiffe://partner.test/*', 'spiffe://second.test/*']
  }] })
  await new HeldConnections(rig.network, 'b').serve(8081)
  await rig.settled()
  await rig.drained()
  const [ofPartner, ofSecond] = await Promise.all([partner!, second!].map(async authority =>
    new HeldConnections(rig.network, undefined, await rig.folderOf(await authority.issue('/a')))))
  for (const held of [ofPartner!, ofSecond!]) {
    await until('bytes to pass', () => held.tcp('tcp', b, 9000), 60_000)
    await held.h2('h2', b, 8081)
    t.equal(await held.ask('h2', '/x'), 200)
  }

  await clock.advance(60_000)
  await rig.settled()
  t.equal(await ofPartner!.ask('h2', '/x'), 403, 'the next request of who is federated no more is refused')
  await ofPartner!.ended('tcp')
  t.notOk(await ofPartner!.tcp('late', b, 9000), 'and what carried bytes is over, as is the way to begin again')
  t.equal(await ofSecond!.ask('h2', '/x'), 200, 'others go on')
  await until('bytes of others to pass', () => ofSecond!.tcp('again', b, 9000), 60_000)
})

import t from 'tap'
import { type MeshDirectory, MeshNode } from '../../src/mesh/mesh-node.ts'
import { clusterType } from '../../src/mesh/resources/mesh-resources.ts'
import { defaultMeshSettings, type MeshPolicies } from '../../src/mesh/mesh-state.ts'
import { WorkloadRegistry } from '../../src/mesh/workloads/workload-registry.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import type { WorkloadIdentity } from '../../src/spiffe/svid.ts'
import { ManualClock, settle, until } from '../fakes/clock.ts'
import { noEpochs } from '../fakes/epochs.ts'
import { FakeIdentities, identityOf, TestTrustDomain } from '../fakes/identities.ts'

const domain = await TestTrustDomain.create('lab.test')
const web = {
  name: 'web', address: '10.99.0.1', spiffeIds: [parseSpiffeId('spiffe://lab.test/b')],
  ports: [{ port: 80, targetPort: 8080, protocol: 'http' as const }]
}

/** A node whose server is slow, and of whose workloads one never gets its SVID. */
function open (t: { teardown (end: () => Promise<void>): void }) {
  const clock = new ManualClock()
  const identities = {
    async * watch (): AsyncGenerator<WorkloadIdentity> {
      yield { ...identityOf(domain.bundle, []), awaitsSvids: true }
    }
  }
  const registry = new WorkloadRegistry(identities, silentLogger)
  registry.arrive({ uid: 'a-1', name: 'a', netnsPath: '/run/netns/a', addresses: ['10.77.0.2'], selectors: [] })
  registry.scanned()
  const server = Promise.withResolvers<void>()
  const settings = { ...defaultMeshSettings, accessLogPath: undefined, authorizationSocketPath: '', trustDomain: domain.name }
  const node = new MeshNode({
    settings, registry, clock, epochs: noEpochs,
    own: signal => new FakeIdentities(domain.bundle).watch([], signal),
    async * directory (): AsyncGenerator<MeshDirectory> {
      await server.promise
      yield { services: [web], endpoints: [] }
    },
    async * revoked () { yield { digests: new Set(), ids: new Set() } },
    async * policies (): AsyncGenerator<MeshPolicies> {
      yield { kind: 'unknown' }
      await server.promise
      yield { kind: 'none' }
    }
  })
  const stop = new AbortController()
  const running = node.tasks().map(run => run(stop.signal).catch(() => {}))
  t.teardown(async () => {
    server.resolve()
    stop.abort(new Error('the test is over'))
    await Promise.all(running)
    registry[Symbol.dispose]()
  })
  return { node, clock, answer: () => server.resolve() }
}

void t.test('a server that is slow does not cost the proxy what it has', async t => {
  const { node, clock, answer } = open(t)
  await until(() => clock.sleeping === 1)
  await clock.advance(30_000)
  t.equal(node.views, undefined, 'half a state would take the other half away')
  answer()
  await settle()
  t.equal(node.views, undefined, 'nor is it told of less workloads than there are')
  await clock.advance(20_000)
  t.ok(node.views?.get(clusterType)?.allNames.has('service/web/80'), 'until one whose SVID cannot be had has held up the others for long')
})

void t.test('a server that says nothing at all is not waited for without end', async t => {
  const { node, clock } = open(t)
  await until(() => clock.sleeping === 1)
  await clock.advance(79_000)
  t.equal(node.views, undefined)
  await clock.advance(1_000)
  t.not(node.views, undefined)
})

import t from 'tap'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runAgent } from '../../src/agent/agent.ts'
import { NodeServices, type NodeMesh } from '../../src/agent/node-services.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { Watchable } from '../../src/runtime/watchable.ts'
import type { LocalEndpoint } from '../../src/spiffe/service-endpoint.ts'
import { serviceRegistryService } from '../../src/wire/generated/cluster.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { encodeService } from '../../src/wire/service-codec.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'
import { makeLocalEndpoint, makeServiceDraft } from '../fakes/services.ts'

const newMesh = (...endpoints: LocalEndpoint[]): NodeMesh => ({ services: new NodeServices(), localEndpoints: new Watchable(endpoints) })
const message = (path: string) => ({ trustDomain: 'example.org', path })
const addressesOf = ({ services: { state } }: NodeMesh) => [...state.endpoints.values()].map(({ address }) => address).toSorted()

t.test('an agent tells what its node runs, learns what others run, and knows it after a restart without servers', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-mesh-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [mesh, other] = [newMesh(makeLocalEndpoint()), newMesh()]
  const server = await startTestServer()
  const agent = await startTestAgent(server, { folder, mesh })
  const second = await startTestAgent(server, { mesh: other })
  const admin = server.admin.client(entryService)
  await admin.batchCreateEntry({
    entries: [agent, second].map(({ path }) =>
      ({ spiffeId: message('/web'), parentId: message(path), selectors: [{ type: 'unix', value: 'uid:1' }] }))
  })
  await server.admin.client(serviceRegistryService).batchCreateService({ services: [encodeService(makeServiceDraft())] })
  for (const known of [mesh, other]) await eventually('both know the endpoint', () => addressesOf(known).length === 1)
  other.localEndpoints.set([makeLocalEndpoint('/web', '10.0.0.2')])
  for (const known of [mesh, other]) await eventually('and the one that came later', () => addressesOf(known).length === 2)
  t.strictSame([...mesh.services.state.services.keys()], ['web'])
  const { revision } = other.services.state
  other.localEndpoints.set([])
  for (const known of [mesh, other]) await eventually('what went is gone', () => addressesOf(known).join() === '10.0.0.1')
  t.ok(other.services.state.revision > revision)

  await agent[Symbol.asyncDispose]()
  await second[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
  const again = newMesh()
  const stop = new AbortController()
  const ended = runAgent(agent.config, stop.signal, { log: silentLogger, mesh: again })
  await eventually('it goes on with what it knew', () => again.services.synced)
  t.strictSame(again.services.state.services, mesh.services.state.services)
  t.strictSame(again.services.state.endpoints, mesh.services.state.endpoints)
  stop.abort()
  await ended
})

t.test('a banned agent knows no services any more', async t => {
  await using server = await startTestServer()
  const mesh = newMesh()
  await using agent = await startTestAgent(server, { mesh })
  await server.admin.client(serviceRegistryService).batchCreateService({ services: [encodeService(makeServiceDraft())] })
  await eventually('it knows the service', () => mesh.services.state.services.size === 1)
  await server.admin.client(agentService).banAgent({ id: message(agent.path) })
  await t.rejects(agent.ended, { code: 'agent_banned' })
  t.equal(mesh.services.state.services.size, 0)
})

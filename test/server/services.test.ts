import t, { type Test } from 'tap'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { serviceRegistryService } from '../../src/wire/generated/cluster.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { encodeService } from '../../src/wire/service-codec.ts'
import { attest, openServerChannel } from '../fakes/agent-client.ts'
import { eventually } from '../fakes/eventually.ts'
import { startFollowingAgent, type FollowingAgent } from '../fakes/following-agent.ts'
import { postgresMissing, startPostgres } from '../fakes/postgres.ts'
import { startTestReplicas } from '../fakes/replicas.ts'
import { startTestServer, type TestServer } from '../fakes/server.ts'
import { makeLocalEndpoint, makeServiceDraft } from '../fakes/services.ts'

const skip = postgresMissing()
const following = (server: TestServer) => startFollowingAgent(server, { mesh: true })

async function register (server: TestServer, agent: FollowingAgent, path: string) {
  const entry = { spiffeId: { trustDomain: 'example.org', path }, parentId: agent.id, selectors: [{ type: 'unix', value: 'uid:1' }] }
  await server.admin.client(entryService).batchCreateEntry({ entries: [entry] })
}

async function createService (t: Test, server: TestServer, ...drafts: Parameters<typeof makeServiceDraft>) {
  const { results } = await server.admin.client(serviceRegistryService)
    .batchCreateService({ services: [encodeService(makeServiceDraft(...drafts))] })
  t.equal(results[0]?.status?.code, 0)
  return results[0]?.service?.id ?? ''
}

/** What an agent knows after all it was told. */
function knownTo ({ told }: FollowingAgent) {
  const services = new Map<string, string>()
  const endpoints = new Map<string, string>()
  for (const step of told) {
    if (step.snapshot) for (const map of [services, endpoints]) map.clear()
    for (const id of step.removedServiceIds) services.delete(id)
    for (const { id, name } of step.services) services.set(id, name)
    for (const id of step.removedEndpointIds) endpoints.delete(id)
    for (const { id, agentId, address } of step.endpoints) endpoints.set(id, `${address} of ${agentId}`)
  }
  return { services: [...services.values()].toSorted(), endpoints: [...endpoints.values()].toSorted() }
}

const endpointOf = ({ spiffeId }: FollowingAgent, address: string) => `${address} of ${spiffeId}`

t.test('services and endpoints go from nodes to nodes', async t => {
  await using server = await startTestServer()
  await using one = await following(server)
  await using two = await following(server)
  await using plain = await startFollowingAgent(server)
  await register(server, one, '/web')
  await register(server, two, '/web')
  const id = await createService(t, server)
  one.report(makeLocalEndpoint())
  two.report(makeLocalEndpoint('/web', '10.0.0.2'), makeLocalEndpoint('/not-its-own', '10.0.0.3'))
  const both = [endpointOf(one, '10.0.0.1'), endpointOf(two, '10.0.0.2')]
  for (const agent of [one, two]) {
    await eventually('each knows both', () => knownTo(agent).endpoints.length === 2)
    t.strictSame(knownTo(agent), { services: ['web'], endpoints: both })
  }
  t.ok(plain.told.every(step => step.services.length + step.endpoints.length === 0), 'who did not ask is told nothing')
  plain.report(makeLocalEndpoint('/web', '10.0.0.9'))
  await using late = await following(server)
  await eventually('the whole state has come', () => late.told.at(-1)?.more === false)
  t.strictSame(knownTo(late), { services: ['web'], endpoints: both }, 'whole, in the first step')

  const { services } = await server.admin.client(serviceRegistryService).listServices({})
  t.match(services, [{ service: { id, name: 'web' }, endpoints: { length: 2 } }])

  await server.admin.client(agentService).banAgent({ id: one.id })
  await eventually('the endpoint of a banned node is withdrawn', () => knownTo(two).endpoints.length === 1)
  t.strictSame(knownTo(two).endpoints, [endpointOf(two, '10.0.0.2')])
  await server.admin.client(serviceRegistryService).batchDeleteService({ ids: [id] })
  await eventually('with the service go its endpoints', () => knownTo(two).services.length === 0)
  t.strictSame(knownTo(two).endpoints, [])
})

t.test('many services come in several messages, as one step', async t => {
  await using server = await startTestServer()
  const names = Array.from({ length: 120 }, (_, n) => `s${n}`)
  const { results } = await server.admin.client(serviceRegistryService)
    .batchCreateService({ services: names.map(name => encodeService(makeServiceDraft({ name }))) })
  t.equal(results.filter(({ status }) => status?.code === 0).length, 120)
  await using agent = await following(server)
  await eventually('all have come', () => agent.told.at(-1)?.more === false)
  t.strictSame(agent.told.map(({ snapshot, more, services }) => [snapshot, more, services.length]),
    [[true, true, 0], [false, true, 50], [false, true, 50], [false, true, 20], [false, false, 0]])
  const pages = server.admin.client(serviceRegistryService)
  const first = await pages.listServices({ pageSize: 100 })
  const second = await pages.listServices({ pageSize: 100, pageToken: first.nextPageToken })
  t.strictSame([...first.services, ...second.services].map(({ service }) => service?.name), names)
  await t.rejects(pages.listServices({ pageSize: -1 }), { code: 'argument_invalid' })
})

t.test('the registry is for operators', async t => {
  await using server = await startTestServer()
  await using channel = openServerChannel(server, await attest(server))
  await using anonymous = openServerChannel(server)
  for (const caller of [channel, anonymous]) {
    const registry = caller.client(serviceRegistryService)
    const calls: readonly (() => Promise<unknown>)[] = [
      () => registry.batchCreateService({}), () => registry.batchUpdateService({}), () => registry.batchDeleteService({}),
      () => registry.listServices({}), () => registry.getService({ name: 'web' })
    ]
    for (const call of calls) await t.rejects(call(), /authorization denied for method/)
  }
  const registry = server.admin.client(serviceRegistryService)
  await t.rejects(registry.getService({}), { code: 'argument_invalid' })
  await t.rejects(registry.getService({ name: 'web', id: 'web' }), { code: 'argument_invalid' })
  await t.rejects(registry.getService({ id: 'web' }), { code: 'service_not_found' })
  const { results } = await registry.batchUpdateService({ services: [encodeService(makeServiceDraft())] })
  t.match(results, [{ status: { code: 3, message: 'missing service id' } }])
})

t.test('two replicas', { skip }, async t => {
  await using postgres = await startPostgres()
  await using replicas = await startTestReplicas(await postgres.createSchema(), 2)
  const [here, there] = replicas.servers as [TestServer, TestServer]
  await using one = await following(here)
  await using two = await following(there)
  await register(there, one, '/web')
  await createService(t, there)
  one.report(makeLocalEndpoint())
  for (const agent of [one, two]) {
    await eventually('what is said at one replica is known at the other', () => knownTo(agent).endpoints.length === 1)
  }
  await one.moveTo(there)
  t.strictSame(knownTo(one), { services: ['web'], endpoints: [endpointOf(one, '10.0.0.1')] })
  one.report(makeLocalEndpoint('/web', '10.0.0.7'))
  await eventually('it goes on from there', () => knownTo(two).endpoints.join() === endpointOf(one, '10.0.0.7'))
  await two.moveTo(here)
  t.equal(two.told.filter(({ snapshot }) => snapshot).length, 1, 'what it missed is enough')
  await eventually('the one that told of it hears of it too', () => knownTo(one).endpoints.join() === endpointOf(one, '10.0.0.7'))
  t.strictSame(knownTo(two), knownTo(one))
  const { services } = await here.admin.client(serviceRegistryService).listServices({})
  t.match(services, [{ endpoints: [{ address: '10.0.0.7', agentId: one.spiffeId }] }], 'each replica says who is behind a service')
})

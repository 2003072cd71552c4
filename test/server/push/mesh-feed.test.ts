import fc from 'fast-check'
import t from 'tap'
import type { ServiceEndpoint } from '../../../src/spiffe/service-endpoint.ts'
import type { Service } from '../../../src/spiffe/service.ts'
import type { SpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../../src/spiffe/trust-domain.ts'
import { makeAgent } from '../../fakes/agents.ts'
import { idOf, testDomain } from '../../fakes/entries.ts'
import { ModelDatabase, type Committed, type ModelChange } from '../../fakes/model-database.ts'
import { FollowingAgent, openPushReplica, type PushReplica } from '../../fakes/push.ts'
import { makeEndpoint, makeService } from '../../fakes/services.ts'

const own = parseTrustDomain(testDomain)
const names = ['one', 'two', 'three'] as const
const nodes = names.map(name => idOf(`/spire/agent/join_token/${name}`))
const [one, two, three] = nodes as [SpiffeId, SpiffeId, SpiffeId]

async function openRig (count: number) {
  const database = new ModelDatabase()
  database.commit({
    agents: new Map(nodes.map(id => [id, makeAgent(id)])),
    bundles: new Map([[own, { trustDomain: own, x509Authorities: [], jwtAuthorities: [] }]])
  })
  const replicas = await Promise.all(Array.from({ length: count }, () => openPushReplica(database.storeFor(), own)))
  const commit = async (change: ModelChange) => {
    database.commit(change)
    for (const { replica } of replicas) await replica.catchUp()
  }
  return { database, replicas: replicas as [PushReplica, ...PushReplica[]], commit }
}

const services = (...all: Service[]) => new Map(all.map(service => [service.id, service]))
const endpoints = (...all: ServiceEndpoint[]) => new Map(all.map(endpoint => [endpoint.id, endpoint]))
const web = makeService()

/** What every agent that follows services must know. */
function truth ({ services, endpoints, agents }: Committed) {
  const served = new Set([...services.values()].flatMap(({ spiffeIds }) => spiffeIds))
  const shown = [...endpoints].filter(([, { agentId, spiffeId }]) => served.has(spiffeId) && agents.get(agentId)?.banned === false)
  return { services: sorted(services), endpoints: sorted(new Map(shown)) }
}
const known = ({ services, endpoints }: FollowingAgent) => ({ services: sorted(services), endpoints: sorted(endpoints) })
const sorted = (map: ReadonlyMap<string, object>) => [...map].toSorted(([a], [b]) => a < b ? -1 : 1)

t.test('agents that ask for services are told of all of them and of the endpoints behind them', async t => {
  const { database, replicas: [here], commit } = await openRig(1)
  const [mesh, plain] = [new FollowingAgent(one, own, true), new FollowingAgent(two, own)]
  await commit({ services: services(web), endpoints: endpoints(makeEndpoint('one'), makeEndpoint('one', '/other')) })
  for (const agent of [mesh, plain]) await agent.connect(here)
  t.match([mesh.take(), plain.take()], [{ snapshot: true }, { snapshot: true, mesh: { services: [], endpoints: [] } }])
  t.strictSame(known(mesh), truth(database.committed))
  t.equal(mesh.endpoints.size, 1, 'an endpoint that serves nothing is nobody\'s business')

  await commit({ services: services(makeService({ name: 'other', spiffeIds: ['spiffe://example.org/other'] })) })
  t.match(mesh.take(), { snapshot: false, mesh: { services: [{ name: 'other' }], endpoints: [{ spiffeId: idOf('/other') }] } })
  t.equal(plain.take(), undefined)
  await commit({ endpoints: endpoints(makeEndpoint('two', '/web', '10.0.0.2'), makeEndpoint('two', '/nothing')) })
  t.match(mesh.take(), { mesh: { services: [], endpoints: [{ address: '10.0.0.2' }] } })
  await commit({ endpoints: endpoints(makeEndpoint('three', '/nothing')) })
  t.equal(mesh.take(), undefined, 'what changes nothing for it is not told')
  await commit({ services: services(makeService({ spiffeIds: ['spiffe://example.org/nothing'], revisionNumber: 1 })) })
  t.match(mesh.take(), { mesh: { endpoints: { length: 2 }, removedEndpointIds: { length: 2 } } }, 'who serves instead')
  await commit({ services: new Map([['web', undefined], ['other', undefined]]) })
  mesh.take()
  t.strictSame(known(mesh), { services: [], endpoints: [] })
})

t.test('the endpoints of an agent that is banned or evicted go with the change that says so', async t => {
  const { database, replicas: [here], commit } = await openRig(1)
  await commit({ services: services(web), endpoints: endpoints(makeEndpoint('two'), makeEndpoint('three', '/web', '10.0.0.3')) })
  const agent = new FollowingAgent(one, own, true)
  await agent.connect(here)
  agent.take()
  await commit({ agents: new Map([[two, makeAgent(two, { banned: true })]]) })
  t.match(agent.take(), { cursor: database.head, mesh: { removedEndpointIds: [makeEndpoint('two').id] } })
  await commit({ agents: new Map([[three, undefined]]) })
  agent.take()
  t.equal(agent.endpoints.size, 0)
  await commit({ agents: new Map([[two, undefined], [three, makeAgent(three)]]) })
  agent.take()
  t.same([...agent.endpoints.values()].map(({ agentId }) => agentId), [three], 'and come back with it')
})

t.test('who comes back is told what it missed, and everything where that is not known', async t => {
  const { database, replicas, commit } = await openRig(2)
  const [here, there] = replicas as readonly PushReplica[] as [PushReplica, PushReplica]
  const agent = new FollowingAgent(one, own, true)
  await commit({ services: services(web, makeService({ name: 'gone' })), endpoints: endpoints(makeEndpoint('two')) })
  await agent.connect(here)
  agent.take()
  agent.disconnect()
  await commit({ services: new Map([['gone', undefined]]) })
  await commit({ endpoints: endpoints(makeEndpoint('three')) })
  await agent.connect(there)
  t.match(agent.take(), {
    snapshot: false, mesh: { services: [], removedServiceIds: ['gone'], endpoints: [{ agentId: three }], removedEndpointIds: [] }
  })
  t.equal(agent.take(), undefined)
  await agent.connect(here)
  t.match(agent.take(), { snapshot: false, mesh: { services: [], endpoints: [] } }, 'only the bundle, as always')
  database.commit({ services: services(makeService({ name: 'late' })) })
  await agent.connect(await openPushReplica(database.storeFor(), own))
  t.match(agent.take(), { snapshot: true, mesh: { services: { length: 2 }, endpoints: { length: 2 } } }, 'of a replica that began later')
})

t.test('agents that follow closely are told the same object', async t => {
  const { replicas: [here], commit } = await openRig(1)
  const agents = nodes.map(id => new FollowingAgent(id, own, true))
  const wholes = new Set()
  for (const agent of agents) {
    await agent.connect(here)
    wholes.add(agent.take()?.mesh)
  }
  t.equal(wholes.size, 1, 'also when they connect')
  await commit({ services: services(web) })
  const steps = new Set(agents.slice(0, 2).map(agent => agent.take()?.mesh))
  t.equal(steps.size, 1)
  await commit({ endpoints: endpoints(makeEndpoint('two')) })
  t.match(agents[2]?.take(), { mesh: { services: [{}], endpoints: [{}] } }, 'a slow one is told of both at once')
  t.equal(agents[2]?.take(), undefined)
})

t.test('whatever happens, every agent ends with the truth', async t => {
  const serviceIds = ['a', 'b', 'c']
  const paths = ['/web', '/api', '/db']
  const command = fc.oneof(
    fc.record({ do: fc.constant('service' as const), id: fc.constantFrom(...serviceIds), paths: fc.subarray(paths) }),
    fc.record({ do: fc.constant('endpoint' as const), node: fc.constantFrom(...names), path: fc.constantFrom(...paths),
      incarnation: fc.constantFrom('', '1', '2') }),
    fc.record({ do: fc.constant('agent' as const), node: fc.constantFrom(...nodes), state: fc.constantFrom('gone', 'banned', 'well') }),
    fc.record({ do: fc.constant('follow' as const), replica: fc.nat(1) }),
    fc.record({ do: fc.constant('connect' as const), agent: fc.nat(1), replica: fc.nat(1) }),
    fc.record({ do: fc.constant('take' as const), agent: fc.nat(1) }),
    fc.record({ do: fc.constant('restore' as const) })
  )
  await t.resolves(fc.assert(fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 40 }), async commands => {
    const { database, replicas } = await openRig(2)
    const agents = [new FollowingAgent(one, own, true), new FollowingAgent(two, own, true)]
    let revisionNumber = 0
    let saved = database.committed
    for (const step of commands) {
      switch (step.do) {
        case 'service': {
          const spiffeIds = step.paths.map(path => `spiffe://example.org${path}`)
          const service = makeService({ id: step.id, name: step.id, spiffeIds: ['spiffe://example.org/x', ...spiffeIds], revisionNumber })
          database.commit({ services: new Map([[step.id, step.paths.length === 0 ? undefined : service]]) })
          revisionNumber++
          break
        }
        case 'endpoint': {
          const endpoint = makeEndpoint(step.node, step.path, '10.0.0.1', { incarnation: step.incarnation })
          database.commit({ endpoints: new Map([[endpoint.id, step.incarnation === '' ? undefined : endpoint]]) })
          break
        }
        case 'agent':
          database.commit({
            agents: new Map([[step.node, step.state === 'gone' ? undefined : makeAgent(step.node, { banned: step.state === 'banned' })]])
          })
          break
        case 'follow': await replicas[step.replica]?.replica.catchUp(); break
        case 'connect': await agents[step.agent]?.connect(replicas[step.replica] as PushReplica); break
        case 'take': agents[step.agent]?.take(); break
        case 'restore': {
          const now = database.committed
          database.setBack(saved, `restored-${revisionNumber++}`)
          saved = now
        }
      }
    }
    for (const { replica } of replicas) await replica.catchUp()
    for (const agent of agents) {
      if (!agent.connected) await agent.connect(replicas[0])
      while (agent.take() !== undefined);
      if (JSON.stringify(known(agent)) !== JSON.stringify(truth(database.committed))) return false
    }
    return true
  }), { numRuns: 300 }))
})

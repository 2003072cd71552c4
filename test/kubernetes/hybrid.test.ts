import t, { type Test } from 'tap'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import type { EntryInit } from '../../src/wire/generated/types.ts'
import { splitCertificates } from '../../src/x509/certificate.ts'
import { startTestAgent } from '../fakes/agent.ts'
import { groupsMissing } from '../fakes/container-group.ts'
import { eventually } from '../fakes/eventually.ts'
import { noFederation, startTestServer, testPlugins, type TestServer } from '../fakes/server.ts'
import { Workload } from '../faults/workload.ts'
import { Administrator } from '../interop/administrator.ts'
import { judge, TestCluster } from './test-cluster.ts'

const skip = groupsMissing()
const timeout = 300_000
const web = [{ type: 'k8s', value: 'ns:shop' }, { type: 'k8s', value: 'sa:web' }]

interface Scene { readonly scope: AsyncDisposableStack, readonly server: TestServer, readonly admin: Administrator }

/** A server that nodes of these clusters may join. */
async function startServer (t: Test, clusters: readonly TestCluster[], config: Parameters<typeof startTestServer>[0] = {}): Promise<Scene> {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const plugins = testPlugins({
    NodeAttestor: {
      join_token: {},
      k8s_psat: { plugin_data: { clusters: Object.fromEntries(clusters.map(({ name, trusted }) => [name, trusted])) } }
    }
  })
  const server = scope.use(await startTestServer({ config: { plugins, ...config.config } }))
  return { scope, server, admin: scope.use(new Administrator({ adminSocket: server.config.socketPath })) }
}

/** All nodes of a cluster are one parent; pods of account `web` there have one identity. @returns theirs */
async function registerCluster ({ server, admin }: Scene, cluster: string, rest: EntryInit = {}): Promise<string> {
  const domain = server.config.trustDomain
  const nodes = `spiffe://${domain}/cluster/${cluster}`
  await admin.register(nodes, `spiffe://${domain}/spire/server`, { selectors: [{ type: 'k8s_psat', value: `cluster:${cluster}` }] })
  const id = `spiffe://${domain}/${cluster}/ns/shop/sa/web`
  await admin.register(id, nodes, { selectors: web, ...rest })
  return id
}

async function startCluster (t: Test, name: string): Promise<TestCluster> {
  const cluster = await TestCluster.start(name)
  t.teardown(() => cluster[Symbol.asyncDispose]())
  return cluster
}

void t.test('machines and nodes of a cluster in one trust domain', { skip, timeout }, async t => {
  const east = await startCluster(t, 'east')
  const scene = await startServer(t, [east])
  const { scope, server, admin } = scene
  const machine = scope.use(await startTestAgent(server))
  const { agent: node, uid } = await east.startNode(server, 'worker-1')
  const pod = await east.startPod('web-1', node)
  const podId = await registerCluster(scene, 'east')
  const billing = 'spiffe://example.org/billing'
  await admin.register(billing, `spiffe://example.org${machine.path}`)

  const ofPod = await pod.x509(podId)
  t.strictSame(ofPod.ids, [podId], 'what the machine\'s user would be is nothing to a node of the cluster')
  await using workload = new Workload(machine.config.socketPath)
  const { svids: [svid, ...others] } = await workload.granted(billing, 60_000)
  t.strictSame(others, [], 'and the machine gets no pod\'s identity')
  const ofMachine = {
    chain: splitCertificates(svid?.x509Svid ?? new Uint8Array()), bundle: splitCertificates(svid?.bundle ?? new Uint8Array())
  }
  t.equal(judge(ofMachine.chain, 'example.org', ofPod.bundle), billing, 'the pod knows the machine\'s workload')
  t.equal(judge(ofPod.chain, 'example.org', ofMachine.bundle), podId, 'and is known there')
  t.equal(await pod.validate(await workload.fetchJwt(billing, 'pods'), 'pods'), billing, 'by token too')

  const { agents } = await admin.agents.listAgents({})
  const kinds = new Map(agents.map(({ id, attestationType, canReattest }) => [attestationType, [canReattest, id?.path]]))
  t.strictSame(kinds, new Map([['join_token', [false, machine.path]], ['k8s_psat', [true, `/spire/agent/k8s_psat/east/${uid}`]]]))
})

void t.test('two clusters on one server', { skip, timeout }, async t => {
  const [east, west] = [await startCluster(t, 'east'), await startCluster(t, 'west')]
  const scene = await startServer(t, [east, west])
  const { server } = scene
  const { agent: eastern } = await east.startNode(server, 'worker-1')
  const { agent: western } = await west.startNode(server, 'worker-1')
  const [eastId, westId] = [await registerCluster(scene, 'east'), await registerCluster(scene, 'west')]
  const [inEast, inWest] = [await east.startPod('web-1', eastern), await west.startPod('web-1', western)]
  const [ofEast, ofWest] = [await inEast.x509(eastId), await inWest.x509(westId)]
  t.strictSame([ofEast.ids, ofWest.ids], [[eastId], [westId]], 'pods of one name and account have each their own cluster\'s identity')
  t.equal(judge(ofWest.chain, 'example.org', ofEast.bundle), westId, 'and know each other')
  await t.rejects(west.startNode(server, 'worker-2', 'east'), { message: /cluster "east": token not authenticated/ },
    'a node of one cluster is none of the other')

  await west.api[Symbol.asyncDispose]()
  const { agent: another } = await east.startNode(server, 'worker-2')
  const next = await east.startPod('web-2', another)
  t.strictSame((await next.x509(eastId)).ids, [eastId], 'a cluster whose API server is away does not stop the other\'s nodes')
})

void t.test('two clusters with a server each, federated', { skip, timeout }, async t => {
  const federation = {
    ...noFederation, leastRefreshMs: 100,
    bundleEndpoint: { address: '127.0.0.1', port: 0, refreshHintSeconds: 1, profileNamed: true, profile: { kind: 'https_spiffe' } }
  } as const
  const start = async (name: string) => {
    const cluster = await startCluster(t, name)
    const scene = await startServer(t, [cluster], { config: { federation, trustDomain: parseTrustDomain(`${name}.test`) } })
    const { agent } = await cluster.startNode(scene.server, 'worker-1')
    return { ...scene, cluster, agent, domain: `${name}.test` }
  }
  type Side = Awaited<ReturnType<typeof start>>
  const [east, west] = [await start('east'), await start('west')]
  const relate = async (from: Side, to: Side) => {
    const { results } = await from.admin.relationships.batchCreateFederationRelationship({
      federationRelationships: [{
        trustDomain: to.domain, bundleEndpointUrl: `https://127.0.0.1:${(await to.server.bundleEndpoint).port}/`,
        trustDomainBundle: await to.admin.bundles.getBundle({}), httpsSpiffe: { endpointSpiffeId: `spiffe://${to.domain}/spire/server` }
      }]
    })
    t.equal(results[0]?.status?.code, 0, `${from.domain} federates with ${to.domain}`)
  }
  await relate(east, west)
  await relate(west, east)
  const eastId = await registerCluster(east, 'east', { federatesWith: ['west.test'] })
  const westId = await registerCluster(west, 'west', { federatesWith: ['east.test'] })
  const [inEast, inWest] = [await east.cluster.startPod('web-1', east.agent), await west.cluster.startPod('web-1', west.agent)]
  const [ofEast, ofWest] = [await inEast.x509(eastId), await inWest.x509(westId)]
  const ofPartner = ({ federated }: typeof ofEast, domain: string) => federated[`spiffe://${domain}`] ?? []
  t.equal(judge(ofWest.chain, 'west.test', ofPartner(ofEast, 'west.test')), westId, 'a pod of the east knows one of the west')
  t.equal(judge(ofEast.chain, 'east.test', ofPartner(ofWest, 'east.test')), eastId)
  t.throws(() => judge(ofWest.chain, 'west.test', ofEast.bundle), { code: 'x509_chain_untrusted' }, 'not by its own roots')
  t.equal(await inWest.validate(await inEast.jwt(eastId, 'west'), 'west'), eastId, 'by token too')

  await west.admin.authorities.prepareX509Authority({})
  await eventually('the west\'s next root reaches pods of the east', async () =>
    ofPartner(await inEast.x509(eastId), 'west.test').length === 2, 60_000)
})

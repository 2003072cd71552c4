import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { fetchBundle } from '../../src/federation/client/fetch-bundle.ts'
import { WebRoots } from '../../src/federation/client/web-roots.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { parseBundleEndpoint } from '../../src/spiffe/bundle-endpoint.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { MachineCa } from '../fakes/machine-ca.ts'
import { startServer } from '../fakes/processes.ts'
import { openRelay } from '../fakes/relay.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'
import { Administrator } from '../interop/administrator.ts'
import { rootOf } from '../interop/nested-servers.ts'
import { machineProof, MovingNode } from './moving-node.ts'
import { MutualCalls, startParty, type Party } from './mutual-calls.ts'
import { Operator, patienceMs } from './operator.ts'

const { signal } = new AbortController()
const skip = withoutSpireServer || withoutSpireAgent
t.setTimeout(600_000)
if (skip !== false) t.comment(`takeover of a trust domain with a partner: skipped: ${skip}`)

const [domain, partnerDomain] = ['spiffe://example.org', 'spiffe://partner.test']
const [web, shop] = [`${domain}/web`, `${partnerDomain}/shop`]
const endpointOf = (port: number) => ({
  federation: { bundle_endpoint: { address: '127.0.0.1', port, refresh_hint: '1s', profile: { https_spiffe: {} } } }
})

await t.test('a partner with a real SPIRE server verifies both at each step, and is verified', { skip, timeout: 600_000 }, async t => {
  await using scope = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const ca = await MachineCa.create('CN=Company CA')
  const attestor = { ca_bundle_path: join(folder, 'roots.pem') }
  await writeFile(attestor.ca_bundle_path, ca.pem)
  const [spirePort, partnerPort] = [await freePort(), await freePort()]
  // Workloads' SVIDs are exchanged soon, so that all that signs is met, and not before a slow machine has moved who has them.
  const [spires, partners] = [endpointOf(spirePort), endpointOf(partnerPort)].map(config => ({
    ...config, default_x509_svid_ttl: '60s', experimental: { cache_reload_interval: '1s' }
  }))
  const spire = scope.use(await startSpireServer({ nodeAttestors: { x509pop: attestor }, config: spires ?? {} }))
  const partner = scope.use(await startSpireServer({ trustDomain: 'partner.test', config: partners ?? {} }))
  const { federation } = endpointOf(0)
  const ours = scope.use(await startServer({
    config: { federation: { ...federation, least_refresh_interval: '1s' }, default_x509_svid_ttl: '60s' },
    blocks: { plugins: { NodeAttestor: { x509pop: { plugin_data: attestor } } } }
  }))
  const oursPort = Number(/:(\d+)$/.exec(String((await ours.process.logged('serving the bundle'))['address']))?.[1])
  const [there, here, abroad] = [spire, ours, partner].map(server => scope.use(new Administrator(server))) as [
    Administrator, Administrator, Administrator]
  // The name of the bundle endpoint, which leads to SPIRE's server first.
  const name = scope.use(await openRelay(spirePort))
  name.open()

  const relate = async (side: Administrator, other: Administrator, trustDomain: string, port: number) => {
    const { results } = await side.relationships.batchCreateFederationRelationship({
      federationRelationships: [{
        trustDomain, bundleEndpointUrl: `https://127.0.0.1:${port}/`, trustDomainBundle: await other.bundles.getBundle({}),
        httpsSpiffe: { endpointSpiffeId: `spiffe://${trustDomain}/spire/server` }
      }]
    })
    t.equal(results[0]?.status?.code, 0, results[0]?.status?.message ?? 'no answer')
  }
  await relate(there, abroad, 'partner.test', partnerPort)
  await relate(abroad, there, 'example.org', name.port)
  const proof = await machineProof(ca, join(folder, 'node'), 'node')
  const node = scope.use(await MovingNode.create(join(folder, 'node'), proof))
  await node.runSpires(spire, proof)
  const agentAbroad = scope.use(await startSpireAgent(partner))
  await there.register(web, node.id, { federatesWith: ['partner.test'] })
  await abroad.register(shop, agentAbroad.id, { federatesWith: ['example.org'] })
  const [own, foreign] = await Promise.all([startParty(node.socket, web), startParty(agentAbroad.socket, shop)])
  const knows = ({ workload }: Party, id: string) => workload.given.federated[id]?.length ?? 0
  await eventually('each to know the other', () => knows(own, partnerDomain) === 1 && knows(foreign, domain) === 1, patienceMs)
  const calls = scope.use(new MutualCalls([own, foreign]))

  /** SPIRE asks no sooner than each minute by itself. */
  const follow = async (what: string, side: Administrator, trustDomain: string, isThere: () => boolean) => {
    let trouble = ''
    await eventually(() => `${what} ${trouble}`, async () => {
      // It has some seconds for the endpoint to answer.
      trouble = await side.relationships.refreshBundle({ trustDomain }).then(() => '', (error: Error) => error.message)
      return trouble === '' && isThere()
    }, patienceMs)
  }
  const followUntil = (count: number) =>
    follow(`${count} authorities at the partner`, abroad, 'example.org', () => knows(foreign, domain) === count)
  const endpoint = parseBundleEndpoint({
    trustDomain: 'example.org', url: `https://127.0.0.1:${name.port}/`, profile: 'https_spiffe', endpointId: `${domain}/spire/server`
  })
  /** What a partner that goes by the number fetches, as it is known to the partner. */
  const sequence = async () => {
    const known = decodeBundle(await abroad.bundles.getFederatedBundle({ trustDomain: 'example.org' }))
    const bundleOf = (trustDomain: string) => trustDomain === known.trustDomain ? known : undefined
    const { bundle } = await fetchBundle(endpoint, { webRoots: new WebRoots({ roots: [] }), bundleOf, clock: systemClock }, signal)
    return bundle.sequenceNumber ?? 0n
  }
  let shown = 0n
  const verified = (when: string) => calls.verify(t, `with the partner works ${when}`)
  const neverFalls = async (when: string) => {
    const next = await sequence()
    t.ok(next >= shown, `the number that the endpoint shows is no lower ${when}: ${shown}, ${next}`)
    shown = next
  }
  /** Prepared, known to the other side, then active: as an operator rotates. */
  const rotate = async (side: Administrator, known: () => Promise<unknown>) => {
    const x509 = (await side.authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
    const jwt = (await side.authorities.prepareJWTAuthority({})).preparedAuthority?.authorityId ?? ''
    await known()
    await side.authorities.activateX509Authority({ authorityId: x509 })
    await side.authorities.activateJWTAuthority({ authorityId: jwt })
  }
  await verified('before')
  await neverFalls('before')

  const operator = new Operator(spire, ours, join(folder, 'takeover.json'))
  t.equal((await operator.run('start', '-settle', '5')).code, 0)
  const keeper = operator.keepEqual()
  scope.defer(() => keeper.kill9())
  await operator.untilAgentsMayMove()
  await followUntil(2)
  await neverFalls('with our authorities in it')

  await node.runOurs(ours, proof)
  await operator.untilHere(node.id)
  await verified('once the agent is ours')
  const isOurs = async () => {
    const { active } = await here.authorities.getX509AuthorityState({})
    return rootOf(own.workload.given.chain) === active?.authorityId
  }
  await eventually('an SVID of ours', isOurs, patienceMs)
  await verified('by an SVID of ours, while the endpoint is SPIRE\'s')
  await rotate(here, () => followUntil(3))
  await eventually('an SVID by our next authority', isOurs, patienceMs)
  await verified('after our rotation, which reached the partner by SPIRE\'s endpoint')
  await neverFalls('after our rotation')

  name.leadTo(oursPort)
  await neverFalls('once the endpoint is ours')
  await rotate(there, () => followUntil(4))
  await verified('once the endpoint is ours, and SPIRE has rotated as well')
  await neverFalls('after SPIRE\'s rotation')
  t.match(await operator.run('finish'), { code: 0 })
  await keeper.stop()
  await rotate(abroad, () => eventually('the partner\'s next authority here', () => knows(own, partnerDomain) === 2, patienceMs))
  await verified('at the end, and the partner has rotated')
  await neverFalls('at the end')

  t.match(await operator.run('rollback'), { code: 4, stderr: /takeover_agents_moved/ })
  await follow('the partner\'s authorities at SPIRE', there, 'partner.test', () => true)
  name.leadTo(spirePort)
  await followUntil(4)
  await verified('once the endpoint is SPIRE\'s again')
  await node.runSpires(spire, proof)
  await operator.untilNobodyIsHere()
  t.match(await operator.run('rollback'), { code: 0, stdout: /bundle-sequence/ })
  t.same((await here.relationships.listFederationRelationships({})).federationRelationships, [])
  await eventually('an SVID of SPIRE\'s', async () => !await isOurs(), patienceMs)
  await verified('after the way back')
  t.comment(`${calls.handshakes} handshakes; numbers up to ${shown}`)
})

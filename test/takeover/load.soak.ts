import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { noEnvoy, until } from '../fakes/envoy.ts'
import { eventually } from '../fakes/eventually.ts'
import { MachineCa } from '../fakes/machine-ca.ts'
import { startServer } from '../fakes/processes.ts'
import { startSpireServer, withoutSpireAgent, withoutSpireServer } from '../fakes/spire.ts'
import { splitCertificates } from '../../src/x509/certificate.ts'
import { portOf, startLoad, startPlacedEnvoy, startWorkload, type Load } from '../envoy/mesh.ts'
import { Workload } from '../faults/workload.ts'
import { Administrator } from '../interop/administrator.ts'
import { machineProof, MovingNode, type NodeProof } from './moving-node.ts'
import { Operator, patienceMs } from './operator.ts'

const withoutEnvoy = noEnvoy()
const skip = withoutSpireServer || withoutSpireAgent || withoutEnvoy
t.setTimeout(1_500_000)
if (skip !== false) t.comment(`takeover under load: skipped: ${skip}`)
/** How long the load goes on between two agents that move. */
const betweenMs = Number(process.env['SOAK_SECONDS'] ?? 30) * 100

const [web, backend, batch] = ['web', 'backend', 'batch'].map(name => `spiffe://example.org/${name}`) as [string, string, string]

await t.test('five agents move from a real SPIRE server to ours and back under load', { skip, timeout: 1_500_000 }, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'assay-takeover-'))
  await using scope = new AsyncDisposableStack()
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const ca = await MachineCa.create('CN=Company CA')
  const roots = join(folder, 'roots.pem')
  await writeFile(roots, ca.pem)
  // Half of it is left at least when an agent goes: for the next one to begin, and for Envoys that ask again in up to half a minute.
  const [attestor, config] = [{ ca_bundle_path: roots }, { default_x509_svid_ttl: '120s' }]
  const spire = scope.use(await startSpireServer({ nodeAttestors: { x509pop: attestor }, config }))
  const ours = scope.use(await startServer({ config, blocks: { plugins: { NodeAttestor: { x509pop: { plugin_data: attestor } } } } }))
  const there = scope.use(new Administrator(spire))
  const here = scope.use(new Administrator(ours))
  const nodes: MovingNode[] = []
  const proofs = new Map<MovingNode, NodeProof>()
  const proofOf = (node: MovingNode) => proofs.get(node) as NodeProof
  for (let n = 1; n <= 5; n++) {
    const proof = await machineProof(ca, join(folder, `node-${n}`), `host-${n}`)
    const node = scope.use(await MovingNode.create(join(folder, `node-${n}`), proof))
    await node.runSpires(spire, proof)
    proofs.set(node, proof)
    nodes.push(node)
  }
  // Servers on the second and the fourth node, callers on the others.
  const [one, two, three, four, five] = nodes as [MovingNode, MovingNode, MovingNode, MovingNode, MovingNode]
  for (const node of [two, four]) await there.register(backend, node.id)
  for (const node of [one, three, five]) for (const id of [web, batch]) await there.register(id, node.id)

  const workload = scope.use(await startWorkload())
  const behind = { backend: { host: '127.0.0.1', port: workload.port } }
  const ports = new Map<MovingNode, number>()
  for (const node of [two, four]) {
    const envoy = scope.use(await startPlacedEnvoy('server-node.yaml', 'GRPC', node.socket, behind))
    ports.set(node, await portOf(envoy, 'mtls'))
    await envoy.ready()
  }
  const loads: Load[] = []
  for (const [caller, callee] of [[one, two], [three, four], [five, two]] as const) {
    const to = { host: '127.0.0.1', port: ports.get(callee) as number }
    const clusters = { 'backend-as-web': to, 'backend-as-batch': to }
    const envoy = scope.use(await startPlacedEnvoy('client-node.yaml', 'GRPC', caller.socket, clusters))
    const port = await portOf(envoy, 'web')
    await envoy.ready()
    const load = startLoad(port)
    scope.defer(async () => { await load.stop() })
    loads.push(load)
  }
  const pause = () => new Promise(resolve => { setTimeout(resolve, betweenMs) })
  await until('the first calls', () => loads.every(({ certificates }) => certificates.size > 0), patienceMs)

  const operator = new Operator(spire, ours, join(folder, 'takeover.json'))
  const rotate = async (side: Administrator, other: Administrator) => {
    const x509 = (await side.authorities.prepareX509Authority({})).preparedAuthority?.authorityId ?? ''
    const jwt = (await side.authorities.prepareJWTAuthority({})).preparedAuthority?.authorityId ?? ''
    const { x509Authorities } = await side.bundles.getBundle({})
    await eventually('the new authorities at the other server', async () => {
      const bundle = await other.bundles.getBundle({})
      return bundle.jwtAuthorities.some(({ keyId }) => keyId === jwt) && bundle.x509Authorities.length >= x509Authorities.length
    }, patienceMs)
    // SPIRE's agents look every second, ours are told.
    for (const node of nodes) {
      await eventually(`the new authorities at ${node.id}`, async () => {
        await using workload = new Workload(node.socket)
        const { svids } = await workload.fetch()
        return splitCertificates(svids[0]?.bundle ?? new Uint8Array()).length >= x509Authorities.length
      }, patienceMs)
    }
    // And Envoys, which are told by their agents.
    await pause()
    await pause()
    await side.authorities.activateX509Authority({ authorityId: x509 })
    await side.authorities.activateJWTAuthority({ authorityId: jwt })
  }

  t.match(await operator.run('plan'), { code: 0 })
  t.equal((await operator.run('start', '-settle', '10')).code, 0)
  let keeper = operator.keepEqual()
  scope.defer(() => keeper.kill9())
  await operator.untilAgentsMayMove()

  for (const [index, node] of nodes.entries()) {
    await node.runOurs(ours, proofOf(node))
    await operator.untilHere(node.id)
    if (index === 1) await rotate(there, here)
    if (index === 2) {
      await keeper.kill9()
      t.match(await operator.run('rollback'), { code: 4, stderr: /takeover_agents_moved/ }, 'in the middle, it would break three')
      keeper = operator.keepEqual()
    }
    if (index === 3) await rotate(here, there)
    await pause()
  }
  t.same((await operator.status()).agents.map(({ place }) => place), Array.from({ length: 5 }, () => 'here'), 'the full move')
  t.match(await operator.run('finish'), { code: 0 })
  t.equal(await keeper.stop(), 0, 'what keeps both equal ends with the takeover')
  await pause()
  const atOurs = loads.map(({ certificates }) => certificates.size)

  t.match(await operator.run('rollback'), { code: 4, stderr: /takeover_agents_moved/ })
  for (const node of nodes.toReversed()) {
    await node.runSpires(spire, proofOf(node))
    await pause()
  }
  await operator.untilNobodyIsHere()
  t.match(await operator.run('rollback'), { code: 0 }, 'the full roll-back')
  t.equal((await here.entries.listEntries({})).entries.length, 0)
  await until('new certificates from SPIRE', () =>
    loads.every(({ certificates }, index) => certificates.size > (atOurs[index] ?? 0)), patienceMs)
  await pause()

  const ends = await Promise.all(loads.map(load => load.stop()))
  t.same(ends.flatMap(({ failures }) => failures), [], `none of ${ends.map(({ requests }) => requests).join(' + ')} requests failed, ` +
    `${loads.map(({ certificates }) => certificates.size).join(', ')} certificates`)
})

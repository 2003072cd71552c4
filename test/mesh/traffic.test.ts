import t from 'tap'
import { exposeTraffic, parseTraffic, readTraffic, type TrafficCount } from '../../src/mesh/envoy/traffic.ts'
import type { MeshService } from '../../src/mesh/mesh-state.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { until } from '../fakes/envoy.ts'
import { PodWorkload } from '../fakes/pod-workload.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { MeshRig } from './mesh-rig.ts'

const skip = noNamespaces()
const id = (path: string) => parseSpiffeId(`spiffe://lab.test${path}`)
const [a, b, guest] = ['/a', '/b', '/guest'].map(id)
const web: MeshService = {
  name: 'web', address: '10.99.0.1', spiffeIds: [id('/b')], plaintext: 'permit',
  ports: [{ port: 80, targetPort: 8080, protocol: 'http' }, { port: 90, targetPort: 9000, protocol: 'tcp' }]
}
const described = (counts: readonly TrafficCount[]) =>
  Object.fromEntries(counts.map(({ name, labels, value }) => [[name, ...labels.values()].join(' '), value]))

async function podsOf (rig: MeshRig) {
  const [caller] = await Promise.all([rig.pod('a', '10.77.0.2'), rig.pod('b', '10.77.0.3')])
  rig.network.addPod('plain', '10.77.0.9', { redirected: false })
  const plain = await PodWorkload.start(rig.network, 'plain')
  await rig.startEnvoy()
  await rig.serving('a', 'b')
  rig.directory.set({ services: [web], endpoints: rig.localEndpoints() })
  await rig.settled()
  return { caller, plain }
}

void t.test('who called whom is counted by both SPIFFE IDs, and who came without any by address', { skip }, async t => {
  await using rig = await MeshRig.open({ settings: { countsTraffic: true } })
  const { caller, plain } = await podsOf(rig)
  for (let n = 0; n < 3; n++) t.equal((await caller.http('10.99.0.1', 80)).status, 200)
  t.equal((await rig.callDirectly(await rig.domain.issue('/guest'), '10.77.0.3', 8080)).status, 200)
  const [light] = await rig.holdDirectly(await rig.domain.issue('/guest'), '10.77.0.3', 9000, 1, 100)
  t.ok(light)
  t.equal((await plain.tcp('10.77.0.3', 9000)).body, 'b hello')
  t.equal((await plain.http('10.77.0.3', 8080)).status, 200)
  const wanted = {
    [`requests ${a} ${b} hbone 200`]: 3, [`requests ${guest} ${b} mtls 200`]: 1, [`connections ${guest} ${b} mtls`]: 1,
    [`plaintext 10.77.0.9 ${b}`]: 2
  }
  let counts: TrafficCount[] = []
  await until('all of it to be counted', async () => {
    counts = await readTraffic(rig.adminSocket)
    const found = described(counts)
    return Object.entries(wanted).every(([what, value]) => (found[what] ?? 0) >= value)
  }).catch((error: unknown) => {
    t.comment(JSON.stringify(described(counts)))
    throw error
  })
  t.match(described(counts), wanted)
  t.same(counts.find(({ name }) => name === 'requests')?.labels.keys().toArray().toSorted(), ['code', 'destination', 'source', 'wire'])
})

void t.test('whom nobody asks, only what comes without mTLS', { skip }, async t => {
  await using rig = await MeshRig.open()
  const { caller, plain } = await podsOf(rig)
  t.equal((await caller.http('10.99.0.1', 80)).status, 200)
  t.equal((await plain.http('10.77.0.3', 8080)).status, 200)
  let counts: TrafficCount[] = []
  await until('it to be counted', async () => (counts = await readTraffic(rig.adminSocket)).length > 0)
  t.strictSame(described(counts), { [`plaintext 10.77.0.9 ${b}`]: 1 })
})

void t.test('from Envoy\'s text to ours', async t => {
  const text = [
    '# TYPE envoy_assay_mesh_requests counter', 'envoy_assay_mesh_requests{source="x\\"y\\\\z",code="200"} 12',
    'envoy_other{source="x"} 1', 'envoy_assay_mesh_plaintext{from="10.0.0.1"} 1', ''
  ].join('\n')
  const counts = parseTraffic(text)
  t.strictSame(described(counts), { 'requests x"y\\z 200': 12, 'plaintext 10.0.0.1': 1 })
  const ours = exposeTraffic(counts, 'assay_agent')
  const name = 'assay_agent_mesh_requests_total'
  t.match(ours, new RegExp(`^# HELP ${name} .*\n# TYPE ${name} counter\n${name}\\{`))
  t.ok(ours.includes('{source="x\\"y\\\\z",code="200"} 12\n'), 'labels as they were')
  t.equal(exposeTraffic([], 'assay_agent'), '', 'nothing of nothing')
  t.strictSame(await readTraffic('/nowhere/admin.sock'), [], 'an Envoy that does not answer has counted nothing')
})

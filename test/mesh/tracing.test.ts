import t from 'tap'
import { noEpochs } from '../fakes/epochs.ts'
import { meshConfigOf, meshSchema } from '../../src/agent/mesh-config.ts'
import { defaultMeshSettings, type MeshService } from '../../src/mesh/mesh-state.ts'
import { clusterType, openMeshResources } from '../../src/mesh/resources/mesh-resources.ts'
import { parseSpiffeId, type SpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { until } from '../fakes/envoy.ts'
import { startOtlpCollector } from '../fakes/otlp-collector.ts'
import { noNamespaces } from '../fakes/pods.ts'
import { MeshRig } from './mesh-rig.ts'

const skip = noNamespaces()
const id = (path: string) => parseSpiffeId(`spiffe://lab.test${path}`)
const collector = { host: '10.77.0.1', port: 4_317 }
const web: MeshService = {
  name: 'web', address: '10.99.0.1', spiffeIds: [id('/b')], ports: [{ port: 80, targetPort: 8080, protocol: 'http' }]
}

async function twoPods (rig: MeshRig) {
  const [a] = await Promise.all([rig.pod('a', '10.77.0.2'), rig.pod('b', '10.77.0.3')])
  await rig.startEnvoy()
  await rig.serving('a', 'b')
  rig.directory.set({ services: [web], endpoints: rig.localEndpoints() })
  await rig.settled()
  return a
}

void t.test('spans of a request: one where it leaves, one where it arrives, both with both SPIFFE IDs', { skip }, async t => {
  await using rig = await MeshRig.open({ settings: { tracing: { ...collector, samplingPercent: 0 } } })
  const spans = await startOtlpCollector(rig.network, collector.port)
  const a = await twoPods(rig)
  const told = async (headers = {}) => {
    const { body } = await a.http('10.99.0.1', 80, { path: '/x', headers })
    return JSON.parse(body ?? '{}') as { readonly traceparent?: string, readonly tracestate?: string }
  }
  const unsampled = await told({ 'x-client-trace-id': 'me', 'x-envoy-force-trace': '1' })
  t.match(unsampled.traceparent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/, 'a request that begins no trace says so to whoever it reaches')

  const [trace, parent] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331']
  const sampled = await told({ traceparent: `00-${trace}-${parent}-01`, tracestate: 'vendor=1' })
  await until('two spans', () => spans.length >= 2)
  const [out, into] = [spans.find(({ kind }) => kind === 3), spans.find(({ kind }) => kind === 2)]
  const ends = { 'spiffe.source': 'spiffe://lab.test/a', 'spiffe.destination': 'spiffe://lab.test/b' }
  t.match(out, { trace, parent, attributes: ends, service: 'assay-node-proxy' }, 'the caller\'s own trace goes on')
  t.match(into, { trace, parent: out?.id, attributes: ends }, 'through the tunnel')
  t.equal(sampled.traceparent, `00-${trace}-${into?.id}-01`, 'and the workload can go on with it')
  t.equal(sampled.tracestate, 'vendor=1')

  const guest = await rig.callDirectly(await rig.domain.issue('/guest'), '10.77.0.3', 8080)
  t.equal(guest.status, 200)
  await told({ traceparent: `00-${'1'.repeat(32)}-${parent}-01` })
  await until('the next two', () => spans.length >= 4)
  t.strictSame(spans.map(span => span.trace), [trace, trace, '1'.repeat(32), '1'.repeat(32)], 'no others were made')
})

void t.test('requests that belong to no trace begin one, as many as are asked for', { skip }, async t => {
  await using rig = await MeshRig.open({ settings: { tracing: { ...collector, samplingPercent: 100 } } })
  const spans = await startOtlpCollector(rig.network, collector.port)
  const a = await twoPods(rig)
  for (let n = 0; n < 3; n++) t.equal((await a.http('10.99.0.1', 80)).status, 200)
  await rig.callDirectly(await rig.domain.issue('/guest'), '10.77.0.3', 8080)
  await until('their spans', () => spans.length >= 7)
  const traces = Map.groupBy(spans, ({ trace }) => trace)
  const kinds = [...traces.values()].map(of => of.map(({ kind }) => kind === 3 ? 'out' : 'in').toSorted().join())
  t.strictSame(kinds.toSorted(), ['in', 'in,out', 'in,out', 'in,out'], 'three through the mesh, and one by plain mTLS')
  const direct = spans.find(({ attributes }) => attributes['spiffe.source'] === 'spiffe://lab.test/guest')
  t.match(direct, { kind: 2, parent: '', attributes: { 'spiffe.destination': 'spiffe://lab.test/b' } })
})

void t.test('a collector that is away holds nothing up', { skip }, async t => {
  await using rig = await MeshRig.open({ settings: { tracing: { ...collector, samplingPercent: 100 } } })
  const a = await twoPods(rig)
  for (let n = 0; n < 5; n++) t.equal((await a.http('10.99.0.1', 80)).status, 200)
})

void t.test('what a configuration says of tracing', async t => {
  const read = (tracing: unknown) => meshSchema.safeParse(tracing === undefined ? {} : { tracing })
  const settingsOf = (tracing: unknown) => meshConfigOf(meshSchema.parse({ tracing })).settings.tracing
  t.equal(read(undefined).data?.tracing, undefined, 'off unless it is asked for')
  const settings = {
    ...defaultMeshSettings, trustDomain: parseTrustDomain('lab.test'), accessLogPath: undefined, authorizationSocketPath: ''
  }
  const state = {
    workloads: [], services: [], endpoints: [], revoked: { digests: new Set<string>(), ids: new Set<SpiffeId>() },
    policies: { kind: 'none' as const }
  }
  t.equal(openMeshResources(settings, noEpochs)(state).get(clusterType)?.has('spans'), false)
  t.strictSame(settingsOf({ address: 'otel:4317' }), { host: 'otel', port: 4317, samplingPercent: 1 })
  t.strictSame(settingsOf({ address: '[fd00::1]:4317', sampling: 12.5 }), { host: 'fd00::1', port: 4317, samplingPercent: 12.5 })
  for (const tracing of [{}, { address: 'otel' }, { address: 'otel:0' }, { address: 'otel:70000' }, { address: 'http://otel:4317' },
    { address: 'otel:4317', sampling: 101 }, { address: 'otel:4317', sampling: -1 }, { address: 'otel:4317', more: 1 }]) {
    t.notOk(read(tracing).success, JSON.stringify(tracing))
  }
})

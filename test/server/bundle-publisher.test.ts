import t, { type Test } from 'tap'
import type { BundlePlace } from '../../src/server/bundle-publisher/bundle-publisher.ts'
import { k8sConfigMapPublisherPlugin as plugin } from '../../src/server/bundle-publisher/k8s-configmap-plugin.ts'
import { publishBundle } from '../../src/server/bundle-publisher/publish-bundle.ts'
import { parseServerConfig } from '../../src/server/server-config.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { KubeApi } from '../fakes/kube-api.ts'
import { startTestServer } from '../fakes/server.ts'

const { signal } = new AbortController()
const place = { namespace: 'assay-node', configmap_name: 'assay-bundle', configmap_key: 'bundle.pem', format: 'pem' }

async function startKubeApi (t: Test): Promise<KubeApi> {
  const api = await KubeApi.start(t.testdir())
  t.teardown(() => api[Symbol.asyncDispose]())
  return api
}

void t.test('a server keeps its bundle in a ConfigMap, through a rotation', async t => {
  const api = await startKubeApi(t)
  const data: Record<string, string> = { other: 'kept' }
  api.configMaps.set('assay-node/assay-bundle', data)
  const config = plugin.config.parse({ clusters: { east: { ...place, kubeconfig_path: api.kubeconfig } } })
  await using server = await startTestServer({ config: {
    plugins: {
      KeyManager: [{ name: 'memory', config: {} }], UpstreamAuthority: [], NodeAttestor: [],
      BundlePublisher: [{ name: plugin.name, config }]
    }
  } })
  const certificates = () => data['bundle.pem']?.match(/BEGIN CERTIFICATE/g)?.length ?? 0
  await eventually('the root to be there', () => certificates() === 1, 60_000)
  await server.admin.client(localAuthorityService).prepareX509Authority({})
  await eventually('the next one to be there', () => certificates() === 2, 60_000)
  t.equal(data['other'], 'kept', 'other keys are left alone')
})

void t.test('in SPIFFE\'s format, with a hint of its own', async t => {
  const api = await startKubeApi(t)
  const data: Record<string, string> = {}
  api.configMaps.set('assay-node/assay-bundle', data)
  const { bundle } = await createTestAuthority('example.org')
  const config = plugin.config.parse({
    clusters: [{ east: { ...place, format: 'spiffe', refresh_hint: '10m', kubeconfig_path: api.kubeconfig } }]
  })
  await using publisher = await plugin.start(config, undefined, signal)
  const [only] = publisher.places
  t.equal(only?.name, 'ConfigMap assay-node/assay-bundle of cluster east')
  await only?.publish(bundle, signal)
  t.match(JSON.parse(data['bundle.pem'] ?? ''), { spiffe_refresh_hint: 600, keys: [{ use: 'x509-svid' }] })
  api.configMaps.clear()
  await t.rejects(only?.publish(bundle, signal) ?? Promise.resolve(), {
    code: 'kubernetes_unreachable', message: /status 403: cannot create/
  }, 'a server that may not make one says what stands in the way')
})

void t.test('a place is written when the bundle changes, by who does the chores, until it succeeds', async t => {
  const clock = new ManualClock()
  const { log, lines } = capturedLog()
  const { bundle } = await createTestAuthority('example.org')
  const empty: Bundle = { ...bundle, x509Authorities: [] }
  const state = { value: empty, holder: true, fails: 0 }
  const written: Bundle[] = []
  const place: BundlePlace = {
    name: 'somewhere',
    publish: async bundle => {
      if (state.fails-- > 0) throw new SpiffeError('kubernetes_unreachable', 'away')
      written.push(bundle)
    }
  }
  const stop = new AbortController()
  const running = publishBundle({ places: [place], ownBundle: state, isHolder: () => state.holder, clock, log }, stop.signal)
  await clock.advance(2_000)
  t.equal(written.length, 0, 'a bundle without a root is nobody\'s bundle yet')
  state.value = bundle
  await clock.advance(1_000)
  t.strictSame(written, [bundle], 'once')
  await clock.advance(299_000)
  t.equal(written.length, 1)
  await clock.advance(2_000)
  t.equal(written.length, 2, 'and again after five minutes, whatever others did there')

  const next = { ...bundle, sequenceNumber: 7n }
  Object.assign(state, { value: next, fails: 3 })
  await clock.advance(3_000)
  t.equal(written.length, 2, 'pauses grow: after three failures it waits for four seconds')
  await clock.advance(6_000)
  t.equal(written.at(-1), next)
  t.strictSame(lines.filter(({ msg }) => msg === 'bundle could not be published; trying again').map(({ failures }) => failures), [1, 2, 3])

  state.holder = false
  state.value = bundle
  await clock.advance(10_000)
  t.equal(written.length, 3, 'a replica that does no chores writes nothing')
  state.holder = true
  await clock.advance(1_000)
  t.equal(written.at(-1), bundle, 'one that has taken them over does')
  stop.abort()
  await running
})

void t.test('its configuration (SPIRE\'s keys)', async t => {
  const parse = (cluster: object) => parseServerConfig({ file: { name: 's', text: JSON.stringify({
    server: { trust_domain: 'example.org', data_dir: '/d' },
    plugins: { BundlePublisher: { k8s_configmap: { plugin_data: { clusters: { east: cluster } } } } }
  }) } })
  t.equal(parse(place).plugins.BundlePublisher.length, 1)
  for (const [why, wrong] of Object.entries({
    'one of pem, spiffe': { format: 'jwks' }, 'a name of a Kubernetes object': { configmap_name: '../x' },
    'a key of a ConfigMap': { configmap_key: 'a/b' }, 'unknown key': { unknown: 1 }
  })) {
    t.throws(() => parse({ ...place, ...wrong }), { code: 'config_invalid', message: new RegExp(why) }, why)
  }
})

import t, { type Test } from 'tap'
import { formatOwnBundle } from '../../src/server/bundle-publisher/bundle-format.ts'
import type { BundlePlace, OwnBundleNow } from '../../src/server/bundle-publisher/bundle-publisher.ts'
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
const sign = async (ttlSeconds: number) => `signed for ${ttlSeconds} s`
const nowOf = (bundle: Bundle): OwnBundleNow => ({ bundle, sign })
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
      KeyManager: [{ name: 'memory', config: {} }], UpstreamAuthority: [], NodeAttestor: [], CredentialComposer: [], Notifier: [],
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
  await only?.publish(nowOf(bundle), signal)
  t.match(JSON.parse(data['bundle.pem'] ?? ''), { spiffe_refresh_hint: 600, keys: [{ use: 'x509-svid' }] })
  api.configMaps.clear()
  await t.rejects(only?.publish(nowOf(bundle), signal) ?? Promise.resolve(), {
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
    publish: async ({ bundle }) => {
      if (state.fails-- > 0) throw new SpiffeError('kubernetes_unreachable', 'away')
      written.push(bundle)
    }
  }
  const stop = new AbortController()
  const running = publishBundle({ places: [place], ownBundle: state, isHolder: () => state.holder, sign, clock, log }, stop.signal)
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
    'spiffe': { format: 'signed' }, 'a name of a Kubernetes object': { configmap_name: '../x' },
    'a key of a ConfigMap': { configmap_key: 'a/b' }, 'unknown key': { unknown: 1 }
  })) {
    t.throws(() => parse({ ...place, ...wrong }), { code: 'config_invalid', message: new RegExp(why) }, why)
  }
})

void t.test('a place that each server has of its own is written by all, and as often as it wants', async t => {
  const clock = new ManualClock()
  const { log } = capturedLog()
  const { bundle } = await createTestAuthority('example.org')
  const told: string[] = []
  const stop = new AbortController()
  const place = (name: string, more: Partial<BundlePlace>): BundlePlace => ({ name, publish: async () => {}, ...more })
  const running = publishBundle({
    places: [place('own', { isOfEachServer: true, againMs: 10_000 }), place('shared', {})], ownBundle: { value: bundle },
    isHolder: () => false, sign, onPublished: name => told.push(name), clock, log
  }, stop.signal)
  await clock.advance(9_000)
  t.strictSame(told, ['own'])
  await clock.advance(2_000)
  t.strictSame(told, ['own', 'own'], 'what is signed ends, and is renewed before')
  stop.abort()
  await running
})

void t.test('formats', async t => {
  const { bundle } = await createTestAuthority('example.org')
  const [spiffe, jwks, pem, signed] = await Promise.all((['spiffe', 'jwks', 'pem', 'signed'] as const).map(async format =>
    await formatOwnBundle(nowOf({ ...bundle, sequenceNumber: 7n }), { format, refreshHintSeconds: 60, ttlSeconds: 5 })))
  t.match(JSON.parse(spiffe?.text ?? ''), {
    keys: [{ use: 'x509-svid' }, { use: 'jwt-svid' }], spiffe_sequence: 7, spiffe_refresh_hint: 60
  })
  const { keys, ...others } = JSON.parse(jwks?.text ?? '') as { keys: readonly object[] }
  t.strictSame(others, {}, 'a JWK Set has nothing of SPIFFE\'s own')
  t.match(keys, [{ kty: 'EC', x5c: [String] }, { kty: 'EC', kid: String }])
  t.notOk(keys.some(key => 'use' in key))
  t.match(pem?.text, /^-----BEGIN CERTIFICATE-----[^]*-----END CERTIFICATE-----\n$/)
  t.same(signed, { text: 'signed for 5 s', contentType: 'application/jose' })
})

void t.test('several publishers, and what they are told', async t => {
  const parse = (publishers: object, server: object = {}) => parseServerConfig({ file: { name: 's', text: JSON.stringify({
    server: { trust_domain: 'example.org', data_dir: '/d', ...server },
    plugins: {
      BundlePublisher: Object.fromEntries(Object.entries(publishers).map(([name, data]) => [name, { plugin_data: data as object }]))
    }
  }) } }).plugins.BundlePublisher
  const file = { path: '/srv/a.jws', format: 'signed' }
  const s3 = { region: 'eu-central-1', bucket: 'backups', object_key: 'a/b.json', format: 'spiffe', refresh_hint: '10m' }
  t.strictSame(parse({}), [], 'none unless it is named')
  t.match(parse({ aws_s3: s3, file }), [
    { name: 'aws_s3', config: { bucket: 'backups', refresh_hint: 600 } }, { name: 'file', config: { ttl: 86_400, interval: 600 } }
  ])
  const refused: ReadonlyArray<readonly [object, RegExp]> = [
    [{ file: { ...file, format: 'der' } }, /format: must be one of spiffe, jwks, pem, signed/],
    [{ file: { path: '/a' } }, /format: /],
    [{ file: { ...file, ttl: '169h' } }, /ttl: must be 168h at most/],
    [{ file: { ...file, interval: '13h' } }, /interval: must be at most half of ttl/],
    [{ aws_s3: { ...s3, object_key: '/b' } }, /object_key: must be 1 to 1024 characters, without a slash in front/],
    [{ aws_s3: { ...s3, bucket: 'Not A Bucket' } }, /bucket: must be the name of a bucket/],
    [{ aws_s3: { ...s3, access_key_id: 'a' } }, /access_key_id: must be set with secret_access_key/]
  ]
  for (const [publishers, rule] of refused) t.throws(() => parse(publishers), { code: 'config_invalid', message: rule }, String(rule))
  t.throws(() => parse({ file }, { disable_jwt_svids: true }), { message: /BundlePublisher: has the format signed, for which it takes/ })
  t.ok(parse({ file: { ...file, format: 'spiffe' } }, { disable_jwt_svids: true }))
  t.throws(() => parse({ aws_s3: { ...s3, bucket: '' } }, { disable_jwt_svids: true }), { code: 'config_invalid' }, 'beside another fault')
})

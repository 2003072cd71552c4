import t, { type Test } from 'tap'
import { parseHcl } from '../../src/runtime/hcl-text.ts'
import type { Notifier } from '../../src/plugins/notifier.ts'
import { k8sBundleNotifierPlugin as plugin } from '../../src/server/notifier/k8sbundle-plugin.ts'
import { runNotifiers } from '../../src/server/notifier/run-notifiers.ts'
import { parseServerConfig } from '../../src/server/server-config.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock, settle } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { KubeApi } from '../fakes/kube-api.ts'
import { startTestServer, testPlugins } from '../fakes/server.ts'

const { signal } = new AbortController()
const mutating = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations'
const validating = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations'
const services = '/apis/apiregistration.k8s.io/v1/apiservices'
const pemOf = ({ x509Authorities }: Bundle) => x509Authorities.map(({ certificate }) => encodePem('CERTIFICATE', certificate)).join('')
const inBase64 = (text: string) => Buffer.from(text).toString('base64')
const [first, second] = await Promise.all(['a', 'b'].map(async () => (await createTestAuthority('example.org')).bundle)) as [Bundle, Bundle]

async function startKubeApi (t: Test): Promise<KubeApi> {
  const api = await KubeApi.start(t.testdir())
  t.teardown(() => api[Symbol.asyncDispose]())
  return api
}

/** Notifiers as a server runs them, on a clock that the test moves. */
function running (t: Test, ...notifiers: readonly Omit<Notifier, typeof Symbol.asyncDispose>[]) {
  const clock = new ManualClock()
  const { log, lines } = capturedLog()
  const ownBundle = { value: first }
  const holder = { is: true }
  const stop = new AbortController()
  const run = runNotifiers({
    notifiers: notifiers.map(notifier => ({ ...notifier, async [Symbol.asyncDispose] () {} })), ownBundle, isHolder: () => holder.is,
    sign: async () => 'signed', clock, log
  }, stop.signal)
  run.catch(() => {})
  t.teardown(async () => {
    stop.abort()
    await run.catch(() => {})
  })
  return { clock, lines, ownBundle, holder, run }
}

void t.test('a notifier hears of the bundle once as the server starts, and of each change', async t => {
  const heard: string[] = []
  const named = (bundle: Bundle) => bundle === first ? 'first' : 'second'
  const { clock, ownBundle, holder } = running(t,
    {
      name: 'both', bundleLoaded: async bundle => { heard.push(`loaded ${named(bundle)}`) },
      bundleUpdated: async bundle => { heard.push(`updated ${named(bundle)}`) }
    },
    { name: 'neither' },
    { name: 'shared', isShared: true, bundleUpdated: async bundle => { heard.push(`shared ${named(bundle)}`) } })
  await settle()
  t.strictSame(heard.splice(0), ['loaded first', 'shared first'], 'no update of what was loaded')
  holder.is = false
  await clock.advance(5_000)
  t.strictSame(heard.splice(0), [])
  ownBundle.value = second
  await clock.advance(1_000)
  t.strictSame(heard.splice(0), ['updated second'], 'the server that does the chores tells the place that all share')
  holder.is = true
  await clock.advance(1_000)
  t.strictSame(heard.splice(0), ['shared second'], 'also one that does them from now on')
})

void t.test('one that fails as the server starts ends it, later it is told again', async t => {
  const away = new SpiffeError('kubernetes_unreachable', 'away')
  const { run } = running(t, { name: 'well', bundleLoaded: async () => {} }, { name: 'ill', bundleLoaded: async () => { throw away } })
  await t.rejects(run, { code: 'kubernetes_unreachable', message: 'Notifier "ill": away' })
  let failures = 2
  const heard: Bundle[] = []
  const { clock, ownBundle, lines } = running(t, {
    name: 'slow',
    bundleLoaded: async () => {},
    async bundleUpdated (bundle) {
      if (failures-- > 0) throw away
      heard.push(bundle)
    }
  })
  await settle()
  ownBundle.value = second
  await clock.advance(500)
  t.strictSame(heard, [])
  for (const ms of [1_000, 2_000]) await clock.advance(ms)
  t.strictSame(heard, [second])
  t.equal(lines.filter(({ level, place }) => level === 'warn' && place === 'Notifier "slow"').length, 2)
})

void t.test('k8sbundle writes to a ConfigMap, to webhooks and to API services with the label', async t => {
  const api = await startKubeApi(t)
  const data: Record<string, string> = { other: 'kept' }
  api.configMaps.set('spire/spire-bundle', data)
  const labels = { trusts: 'true' }
  const hook = (name: string) => ({ name, clientConfig: {} as { caBundle?: string } })
  const [one, two, three, four] = ['one.example.org', 'two.example.org', 'three.example.org', 'four.example.org'].map(hook) as [
    ReturnType<typeof hook>, ReturnType<typeof hook>, ReturnType<typeof hook>, ReturnType<typeof hook>
  ]
  const service = { caBundle: 'b2xk' }
  api.labelled.set(`${mutating}/m`, { metadata: { name: 'm', labels }, webhooks: [one, two] })
  api.labelled.set(`${validating}/v`, { metadata: { name: 'v', labels }, webhooks: [three] })
  api.labelled.set(`${validating}/stranger`, { metadata: { name: 'stranger', labels: { trusts: 'false' } }, webhooks: [four] })
  api.labelled.set(`${services}/v1.metrics`, { metadata: { name: 'v1.metrics', labels }, spec: service })
  const config = plugin.config.parse({ webhook_label: 'trusts', api_service_label: 'trusts', kube_config_file_path: api.kubeconfig })
  await using notifier = await plugin.start(config, undefined, signal)
  const hold = (bundle: Bundle, what: string) => {
    t.strictSame(data, { other: 'kept', 'bundle.crt': pemOf(bundle) }, what)
    const all = [one.clientConfig.caBundle, two.clientConfig.caBundle, three.clientConfig.caBundle, service.caBundle]
    t.strictSame(all, Array.from({ length: 4 }, () => inBase64(pemOf(bundle))), what)
    t.equal(four.clientConfig.caBundle, undefined, 'others are left alone')
  }
  await notifier.bundleLoaded?.(first, signal)
  hold(first, 'as the server starts')
  const patches = () => api.calls.filter(call => call.startsWith('PATCH')).length
  const before = patches()
  await notifier.bundleUpdated?.(first, signal)
  t.equal(patches(), before, 'what has it is not written')
  await notifier.bundleUpdated?.(second, signal)
  hold(second, 'after a change')
  const late = hook('late.example.org')
  api.labelled.set(`${mutating}/late`, { metadata: { name: 'late', labels }, webhooks: [late] })
  await notifier.bundleUpdated?.(second, signal)
  t.equal(late.clientConfig.caBundle, inBase64(pemOf(second)), 'an object that was made later has it at the next look')
  t.equal(notifier.againMs, 10_000)
  api.configMaps.delete('spire/spire-bundle')
  await t.rejects(notifier.bundleUpdated?.(first, signal) ?? Promise.resolve(), { code: 'kubernetes_unreachable' })
  t.equal(one.clientConfig.caBundle, inBase64(pemOf(first)), 'what fails holds up nothing else')
  api.fails = true
  await t.rejects(notifier.bundleUpdated?.(first, signal) ?? Promise.resolve(), { code: 'kubernetes_unreachable', message: /status 503/ })
})

void t.test('SPIRE\'s keys, and what is refused by name', t => {
  const usual = { namespace: 'spire', configMap: 'spire-bundle', configMapKey: 'bundle.crt', kubeconfig: undefined }
  t.match(plugin.config.parse({}), [usual], 'this cluster alone')
  const clusters = [{ kube_config_file_path: '/east', webhook_label: 'spiffe.io/webhook' }]
  t.match(plugin.config.parse({ clusters }), [{ ...usual, kubeconfig: '/east', webhookLabel: 'spiffe.io/webhook' }], 'others alone')
  t.equal(plugin.config.parse({ clusters }).length, 1)
  t.match(plugin.config.parse({ namespace: 'x', clusters }), [{ ...usual, namespace: 'x' }, { kubeconfig: '/east' }], 'both')
  for (const raw of [
    { clusters: [{ namespace: 'x' }] }, { namespace: 'No Name' }, { config_map: '../x' }, { config_map_key: 'a/b' },
    { webhook_label: 'a=b' }, { x: 1 }
  ]) t.throws(() => plugin.config.parse(raw), JSON.stringify(raw))
  const of = (block: string) => parseServerConfig({ file: {
    name: 'server.conf', parse: parseHcl, text: `server {
      trust_domain = "example.org"
      data_dir = "/unused"
    }
    plugins {
      ${block}
    }`
  } })
  const two = 'clusters = [{ kube_config_file_path = "/a" }, { kube_config_file_path = "/b" }]'
  t.match(of(`Notifier "k8sbundle" {\n plugin_data {\n ${two}\n }\n }`).plugins, {
    Notifier: [{ name: 'k8sbundle', config: [{ kubeconfig: '/a' }, { kubeconfig: '/b' }] }]
  })
  t.throws(() => of('Notifier "gcs_bundle" {}'), { code: 'config_invalid', message: /gcs_bundle.*Google Cloud Storage/ })
  t.end()
})

void t.test('a server tells its notifiers, through a rotation', async t => {
  const api = await startKubeApi(t)
  const data: Record<string, string> = {}
  api.configMaps.set('spire/spire-bundle', data)
  const plugins = testPlugins({ Notifier: { k8sbundle: { plugin_data: { kube_config_file_path: api.kubeconfig } } } })
  await using server = await startTestServer({ config: { plugins } })
  const certificates = () => data['bundle.crt']?.match(/BEGIN CERTIFICATE/g)?.length ?? 0
  await eventually('the root to be there', () => certificates() === 1, 60_000)
  await server.admin.client(localAuthorityService).prepareX509Authority({})
  await eventually('the next one to be there', () => certificates() === 2, 60_000)
})

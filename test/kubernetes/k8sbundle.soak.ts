import t from 'tap'
import { k8sBundleNotifierPlugin as plugin } from '../../src/server/notifier/k8sbundle-plugin.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { kubeApiserverMissing } from './build-kube-apiserver.ts'
import { documentedObjects } from './documented-rules.ts'
import { RealCluster } from './real-cluster.ts'

const { signal } = new AbortController()
const patienceMs = 120_000
const admission = '/apis/admissionregistration.k8s.io/v1'
const aggregation = '/apis/apiregistration.k8s.io/v1'
const label = 'spiffe.io/trusts'
const namespace = 'default'

const inBase64 = ({ x509Authorities }: Bundle) =>
  Buffer.from(x509Authorities.map(({ certificate }) => encodePem('CERTIFICATE', certificate)).join('')).toString('base64')

void t.test('SPIRE\'s k8sbundle with a real API server', { skip: kubeApiserverMissing() }, async t => {
  await using kubernetes = await RealCluster.start()
  const [first, second] = await Promise.all([1, 2].map(async () => (await createTestAuthority('example.org')).bundle)) as [Bundle, Bundle]
  const config = plugin.config.parse({
    namespace, webhook_label: label, api_service_label: label, kube_config_file_path: kubernetes.kubeconfig
  })
  await using notifier = await plugin.start(config, undefined, signal)
  const tell = async (bundle: Bundle) => await (notifier.bundleUpdated as NonNullable<typeof notifier.bundleUpdated>)(bundle, signal)
  const labels = { [label]: 'true' }
  const hooks = (...names: string[]) => names.map(name => ({
    name, clientConfig: { url: `https://${name}/` }, admissionReviewVersions: ['v1'], sideEffects: 'None',
    rules: [{ operations: ['CREATE'], apiGroups: ['none.example.org'], apiVersions: ['v1'], resources: ['nothing'] }]
  }))
  const make = async (path: string, object: object) => { await kubernetes.ask('POST', path, object) }
  const [mutating, validating] = [`${admission}/mutatingwebhookconfigurations`, `${admission}/validatingwebhookconfigurations`]
  await make(`/api/v1/namespaces/${namespace}/configmaps`, { metadata: { name: 'spire-bundle' }, data: { other: 'kept' } })
  await make(mutating, { metadata: { name: 'm', labels }, webhooks: hooks('a.example.org', 'b.example.org') })
  await make(validating, { metadata: { name: 'v', labels }, webhooks: hooks('c.example.org') })
  await make(validating, { metadata: { name: 'stranger' }, webhooks: hooks('d.example.org') })
  await make(`${aggregation}/apiservices`, {
    metadata: { name: 'v1.metrics.example.org', labels },
    spec: {
      group: 'metrics.example.org', version: 'v1', groupPriorityMinimum: 100, versionPriority: 100, service: { namespace, name: 'metrics' }
    }
  })

  await t.rejects(tell(first), { code: 'kubernetes_unreachable', message: /status 403/ }, 'a server without rights is refused')
  await kubernetes.grantServer(documentedObjects('kubernetes.md', 'validatingwebhookconfigurations')[0])
  await eventually('the rights count', () => tell(first).then(() => true, () => false), patienceMs)

  type Webhooks = { readonly webhooks: readonly { readonly name: string, readonly clientConfig: { readonly caBundle?: string } }[] }
  const bundlesOf = async (kind: string, name: string) => {
    const { webhooks } = await kubernetes.ask('GET', `${admission}/${kind}/${name}`) as unknown as Webhooks
    return webhooks.map(({ clientConfig }) => clientConfig.caBundle)
  }
  const holds = async (bundle: Bundle, what: string) => {
    const { data } = await kubernetes.ask('GET', `/api/v1/namespaces/${namespace}/configmaps/spire-bundle`)
    t.strictSame(data, { 'other': 'kept', 'bundle.crt': Buffer.from(inBase64(bundle), 'base64').toString() }, what)
    t.strictSame(await bundlesOf('mutatingwebhookconfigurations', 'm'), [inBase64(bundle), inBase64(bundle)], what)
    t.strictSame(await bundlesOf('validatingwebhookconfigurations', 'v'), [inBase64(bundle)], what)
    t.strictSame(await bundlesOf('validatingwebhookconfigurations', 'stranger'), [undefined], 'one without the label is left alone')
    const { spec } = await kubernetes.ask('GET', `${aggregation}/apiservices/v1.metrics.example.org`)
    t.equal((spec as { caBundle: string }).caBundle, inBase64(bundle), what)
  }
  await holds(first, 'the first bundle')
  const versionOf = async () => (await kubernetes.ask('GET', `${admission}/mutatingwebhookconfigurations/m`))['metadata']
  const before = await versionOf()
  await tell(first)
  t.strictSame(await versionOf(), before, 'what has it is not written')
  await tell(second)
  await holds(second, 'the next one')
})

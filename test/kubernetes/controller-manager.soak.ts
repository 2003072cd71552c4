import t from 'tap'
import { formatBundleDocument } from '../../src/spiffe/bundle-document.ts'
import type { Entry } from '../../src/wire/generated/types.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { eventually } from '../fakes/eventually.ts'
import { startServer } from '../fakes/processes.ts'
import { Administrator, idMessage } from '../interop/administrator.ts'
import { controllerManagerMissing } from './build-controller-manager.ts'
import { kubeApiserverMissing } from './build-kube-apiserver.ts'
import { ControllerManager, controllerManagerRules } from './controller-manager.ts'
import { changeObject, changeResource, createResource, deleteResource, installCustomResources, readResource } from './custom-resources.ts'
import { RealCluster } from './real-cluster.ts'

const skip = kubeApiserverMissing() || controllerManagerMissing()
const patienceMs = 120_000
const entryIDPrefix = 'east'

void t.test('the real spire-controller-manager at our server', { skip }, async t => {
  await using scope = new AsyncDisposableStack()
  const cluster = scope.use(await RealCluster.start())
  await installCustomResources(cluster)
  await cluster.grantServer(controllerManagerRules)
  const server = scope.use(await startServer())
  const admin = scope.use(new Administrator(server))
  const nodeUid = await cluster.addNode('worker-1', {})
  await cluster.ask('POST', '/api/v1/namespaces', { metadata: { name: 'shop', labels: { team: 'a' } } })
  await cluster.ask('POST', '/api/v1/namespaces/shop/serviceaccounts', { metadata: { name: 'web' } })

  await admin.register('spiffe://example.org/foreign', 'spiffe://example.org/machine')
  const joined = idMessage('spiffe://example.org/joined')
  await admin.agents.createJoinToken({ ttl: 600, agentId: joined })
  const entries = async () => (await admin.entries.listEntries({})).entries
  const entry = async (path: string) => (await entries()).find(({ spiffeId }) => spiffeId?.path === path)
  const mine = async () => (await entries()).filter(({ id }) => id.startsWith(`${entryIDPrefix}.`))
  const others = await entries()

  await using stack = new AsyncDisposableStack()
  const manager = stack.use(await ControllerManager.start({ cluster, server, entryIDPrefix }))
  const said = () => manager.log.slice(-6_000)
  const until = async (what: string, holds: () => Promise<boolean>) => await eventually(() => `${what}\n${said()}`, async () => {
    if (!manager.running) throw new Error(`it ended:\n${said()}`)
    return await holds()
  }, patienceMs)
  const podPath = '/api/v1/namespaces/shop/pods/web-1'
  const relabel = async (labels: object) => await changeObject(cluster, podPath, stored =>
    ({ ...stored, metadata: { ...stored['metadata'] as object, labels } }))

  const partner = await createTestAuthority('partner.example')
  await t.test('a partner', async t => {
    await createResource(cluster, resource('ClusterFederatedTrustDomain', 'partner', {
      trustDomain: 'partner.example',
      bundleEndpointURL: 'https://127.0.0.1:1/bundle',
      bundleEndpointProfile: { type: 'https_spiffe', endpointSPIFFEID: 'spiffe://partner.example/spire/server' },
      trustDomainBundle: formatBundleDocument({ ...partner.bundle, sequenceNumber: 7n, refreshHintSeconds: 300 })
    }))
    const relationship = async () => (await admin.relationships.listFederationRelationships({})).federationRelationships[0]
    await until('the relationship is there', async () => await relationship() !== undefined)
    t.match(await relationship(), { trustDomain: 'partner.example', bundleEndpointUrl: 'https://127.0.0.1:1/bundle' })
    t.equal((await relationship())?.httpsSpiffe?.endpointSpiffeId, 'spiffe://partner.example/spire/server')
    const { sequenceNumber } = await admin.bundles.getFederatedBundle({ trustDomain: 'partner.example' })
    t.equal(sequenceNumber, 7n, 'with the bundle that stands in the resource')
    await changeResource(cluster, 'ClusterFederatedTrustDomain', 'partner', { bundleEndpointURL: 'https://127.0.0.1:2/moved' })
    await until('the relationship changes', async () => (await relationship())?.bundleEndpointUrl === 'https://127.0.0.1:2/moved')
  })

  await t.test('a pod', async t => {
    const { metadata } = await cluster.ask('POST', '/api/v1/namespaces/shop/pods', {
      metadata: { name: 'web-1', labels: { app: 'web' } },
      spec: {
        nodeName: 'worker-1', serviceAccountName: 'web', automountServiceAccountToken: false, containers: [{ name: 'web', image: 'web:1' }]
      }
    })
    const { uid } = metadata as { uid: string }
    await cluster.ask('POST', '/api/v1/namespaces/shop/endpoints', {
      metadata: { name: 'front' },
      subsets: [{
        addresses: [{ ip: '10.1.2.3', targetRef: { kind: 'Pod', namespace: 'shop', name: 'web-1', uid } }], ports: [{ port: 80 }]
      }]
    })
    await createResource(cluster, resource('ClusterSPIFFEID', 'shop', {
      spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}',
      namespaceSelector: { matchLabels: { team: 'a' } },
      podSelector: { matchLabels: { identity: 'yes' } },
      dnsNameTemplates: ['{{ .PodMeta.Name }}.example.org'],
      workloadSelectorTemplates: ['k8s:container-name:{{ (index .PodSpec.Containers 0).Name }}'],
      federatesWith: ['partner.example'],
      autoPopulateDNSNames: true,
      ttl: '1h30m',
      jwtTtl: '2m',
      hint: 'shop'
    }))
    const stats = async () => statusOf(await readResource(cluster, 'ClusterSPIFFEID', 'shop'))['stats'] as Fields | undefined
    await until('the resource is looked at', async () => (await stats())?.['namespacesSelected'] === 1)
    t.same(await mine(), [], 'without the label it has no entry')

    await relabel({ app: 'web', identity: 'yes' })
    // The service may be heard of after the label.
    await until('it has an entry', async () => (await mine())[0]?.dnsNames.length === 5)
    const [made] = await mine()
    t.match(made, {
      spiffeId: { trustDomain: 'example.org', path: '/ns/shop/sa/web' },
      parentId: { trustDomain: 'example.org', path: `/spire/agent/k8s_psat/real/${nodeUid}` },
      x509SvidTtl: 5_400,
      jwtSvidTtl: 120,
      federatesWith: ['partner.example'],
      hint: 'shop',
      admin: false,
      downstream: false
    }, 'with all that the resource says')
    t.same(selectorsOf(made), ['k8s:container-name:web', `k8s:pod-uid:${uid}`])
    t.same(made?.dnsNames, ['web-1.example.org', 'front', 'front.shop', 'front.shop.svc', 'front.shop.svc.cluster.local'])
    await until('the resource tells', async () => (await stats())?.['entriesToSet'] === 1)

    await changeResource(cluster, 'ClusterSPIFFEID', 'shop', { ttl: '10m', hint: 'other', downstream: true })
    await until('its entry changes', async () => (await entry('/ns/shop/sa/web'))?.x509SvidTtl === 600)
    t.match(await entry('/ns/shop/sa/web'), { id: made?.id, hint: 'other', downstream: true }, 'and stays the same one')

    await relabel({ app: 'web', identity: 'no' })
    await until('its entry goes with the label', async () => (await mine()).length === 0)
    await relabel({ app: 'web', identity: 'yes' })
    await until('it has one again', async () => (await mine()).length === 1)
    await cluster.ask('DELETE', `${podPath}?gracePeriodSeconds=0`)
    await until('its entry goes with it', async () => (await mine()).length === 0)
  })

  await t.test('static entries', async t => {
    const spec = {
      spiffeID: 'spiffe://example.org/vm', parentID: 'spiffe://example.org/machine', selectors: ['unix:uid:1', 'unix:gid:2'],
      x509SVIDTTL: '2h', jwtSVIDTTL: '6m', dnsNames: ['vm.example.org'], hint: 'vm', admin: true, storeSVID: true
    }
    await createResource(cluster, resource('ClusterStaticEntry', 'vm', spec))
    const status = async (name: string) => statusOf(await readResource(cluster, 'ClusterStaticEntry', name))
    // It says `set` only until it looks again, which may be at once.
    await until('it is rendered', async () => (await status('vm'))['rendered'] === true)
    await until('it has an entry', async () => await entry('/vm') !== undefined)
    t.match(await entry('/vm'), {
      x509SvidTtl: 7_200, jwtSvidTtl: 360, dnsNames: ['vm.example.org'], hint: 'vm', admin: true, storeSvid: true
    }, 'with all that the resource says')
    // Of two that are equal the older one counts, and of two of one second any.
    await until('a second has passed', async () => Date.now() >= createdAt(await readResource(cluster, 'ClusterStaticEntry', 'vm')) + 1000)
    await createResource(cluster, resource('ClusterStaticEntry', 'vm-again', spec))
    await until('the same again is masked', async () => (await status('vm-again'))['masked'] === true)
    t.equal((await mine()).length, 1)
    for (const name of ['vm', 'vm-again']) await deleteResource(cluster, 'ClusterStaticEntry', name)
    await until('it goes', async () => (await mine()).length === 0)
  })

  await t.test('what is as it should be is left alone', async t => {
    t.same(await entries(), others, 'so are all entries of others, to the revision; nothing of its own stays, nor of its first question')
    const counts = new Map<string, number>()
    for (const change of manager.changes()) counts.set(change, (counts.get(change) ?? 0) + 1)
    const { 'Updated entry': updates = 0, ...rest } = Object.fromEntries(counts)
    t.same(rest, {
      'Created federation relationship': 1, 'Updated federation relationship': 1, 'Created entry': 3, 'Deleted entry': 3
    }, 'it found no other difference at any look, each second')
    // Twice more, if it heard of the service after the label.
    t.ok(updates >= 1 && updates <= 3, `nor did it change entries again and again (${updates})`)
  })

  await t.test('without a prefix every entry is its own', async t => {
    await stack.disposeAsync()
    await using whole = await ControllerManager.start({ cluster, server })
    await eventually(() => whole.log, async () => await entry('/foreign') === undefined, patienceMs)
    t.not(await entry('/joined'), undefined, 'but those of join tokens')
    await deleteResource(cluster, 'ClusterFederatedTrustDomain', 'partner')
    await eventually(() => whole.log, async () =>
      (await admin.relationships.listFederationRelationships({})).federationRelationships.length === 0, patienceMs)
  })
})

function resource (kind: string, name: string, spec: object): object {
  return { apiVersion: 'spire.spiffe.io/v1alpha1', kind, metadata: { name }, spec }
}

type Fields = Readonly<Record<string, unknown>>

/** Milliseconds since the epoch, to the second. */
function createdAt ({ metadata }: Fields): number { return Date.parse(String((metadata as Fields)['creationTimestamp'])) }

function statusOf (stored: Fields): Fields { return stored['status'] as Fields | undefined ?? {} }

function selectorsOf (entry: Entry | undefined): readonly string[] {
  return (entry?.selectors ?? []).map(({ type, value }) => `${type}:${value}`).toSorted()
}

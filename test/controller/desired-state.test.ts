import t from 'tap'
import { DesiredState } from '../../src/controller/desired/desired-state.ts'
import { MadeUpCluster, scopeWith } from './cluster-fixture.ts'

const demoParent = 'spiffe://example.org/spire/agent/k8s_psat/demo/uid-of-worker-1'

function desire (cluster: MadeUpCluster, keys: Readonly<Record<string, unknown>> = {}): DesiredState {
  const desired = new DesiredState(scopeWith(keys))
  desired.refresh(cluster)
  return desired
}

/** Who counts, for each entry. */
function declared (desired: DesiredState) {
  return [...desired.keys()].map(key => {
    const [first] = desired.of(key)
    return { by: first?.by.name, id: first?.entry.spiffeId as string }
  }).toSorted((a, b) => `${a.id} ${a.by}` < `${b.id} ${b.by}` ? -1 : 1)
}

void t.test('the entry of a pod (spire-surface §8.2)', async t => {
  const cluster = new MadeUpCluster()
  const uid = cluster.addPod('web-1', { labels: { app: 'web' } })
  cluster.servicesByPod.set(uid, ['front', 'web'])
  cluster.addSpiffeId('pods', {
    ttl: '1h30m', jwtTtl: '90s', hint: 'web', admin: true, downstream: true, federatesWith: ['partner.test', 'spiffe://other.test'],
    dnsNameTemplates: ['{{ .PodMeta.Name }}.test', 'web.shop'], workloadSelectorTemplates: ['k8s:container-name:{{ .PodMeta.Labels.app }}'],
    autoPopulateDNSNames: true
  })
  const desired = desire(cluster)
  const [key = ''] = desired.keys()
  t.strictSame(desired.of(key)[0]?.entry, {
    id: key,
    spiffeId: 'spiffe://example.org/ns/shop/sa/web',
    parentId: demoParent,
    selectors: [{ type: 'k8s', value: 'container-name:web' }, { type: 'k8s', value: `pod-uid:${uid}` }],
    x509SvidTtlSeconds: 5_400,
    jwtSvidTtlSeconds: 90,
    federatesWith: ['partner.test', 'other.test'],
    dnsNames: [
      'web-1.test', 'web.shop', 'front', 'front.shop', 'front.shop.svc', 'front.shop.svc.cluster.local', 'web', 'web.shop.svc',
      'web.shop.svc.cluster.local'
    ],
    admin: true,
    downstream: true,
    storeSvid: false,
    hint: 'web',
    expiresAtSeconds: 0,
    additionalAttributes: { disableX509SvidPrefetch: false, jwtSvidIncludeJti: false }
  })
  t.match(key, /^[0-9a-f]{32}$/)
  t.strictSame([...desire(cluster).keys()], [key], 'the same from the same')
  const other = desire(cluster, { parentIDTemplate: 'spiffe://{{ .TrustDomain }}/node/{{ .NodeMeta.Name }}' })
  t.equal([...other.keys()].map(key => other.of(key)[0]?.entry.parentId).join(), 'spiffe://example.org/node/worker-1')
})

void t.test('which pods get one', async t => {
  const cluster = new MadeUpCluster()
  cluster.addNamespace('dev', { stage: 'dev' })
  cluster.addNamespace('kube-system')
  cluster.addPod('a', { labels: { app: 'web', tier: 'front' } })
  cluster.addPod('b', { labels: { app: 'db' } })
  cluster.addPod('c', { namespace: 'dev', labels: { app: 'web' } })
  cluster.addPod('d', { namespace: 'kube-system', labels: { app: 'web' } })
  cluster.addPod('done', { labels: { app: 'web' }, phase: 'Succeeded' })
  cluster.addPod('waits', { labels: { app: 'web' }, nodeName: '' })
  cluster.addPod('lost', { labels: { app: 'web' }, nodeName: 'worker-9' })
  const id = 'spiffe://{{ .TrustDomain }}/{{ .PodMeta.Name }}'
  const of = (spec: Readonly<Record<string, unknown>>) => {
    cluster.ids = []
    cluster.addSpiffeId('one', { spiffeIDTemplate: id, ...spec })
    return declared(desire(cluster)).map(({ id }) => id.slice('spiffe://example.org/'.length)).join()
  }
  t.equal(of({}), 'a,b,c', 'all that run on a node that is there, in namespaces that are not ignored')
  t.equal(of({ podSelector: {} }), 'a,b,c')
  t.equal(of({ podSelector: { matchLabels: { app: 'web' } } }), 'a,c')
  t.equal(of({ podSelector: { matchLabels: { app: 'web', tier: 'front' } } }), 'a')
  t.equal(of({ podSelector: { matchExpressions: [{ key: 'app', operator: 'In', values: ['db', 'x'] }] } }), 'b')
  const notFront = { matchExpressions: [{ key: 'tier', operator: 'NotIn', values: ['front'] }] }
  t.equal(of({ podSelector: notFront }), 'b,c', 'also without the label')
  t.equal(of({ podSelector: { matchExpressions: [{ key: 'tier', operator: 'Exists' }] } }), 'a')
  t.equal(of({ podSelector: { matchExpressions: [{ key: 'tier', operator: 'DoesNotExist' }] } }), 'b,c')
  t.equal(of({ namespaceSelector: { matchLabels: { stage: 'dev' } } }), 'c')
  t.equal(of({ className: 'blue' }), '', 'not of this class')

  cluster.ids = []
  cluster.addSpiffeId('one', { spiffeIDTemplate: id, podSelector: { matchLabels: { app: 'web' } } })
  const desired = desire(cluster)
  const [resource] = cluster.ids
  t.strictSame(resource && desired.statsOf(resource, cluster).stats, {
    namespacesSelected: 3, namespacesIgnored: 1, podsSelected: 5, podEntryRenderFailures: 0
  })
  const skips = ['d', 'done', 'waits', 'lost'].map(name => {
    const uid = name === 'd' ? 'pod-kube-system-d' : `pod-shop-${name}`
    return desired.outcomeOf(uid)?.skips.map(({ reason }) => reason).join()
  })
  t.strictSame(skips, ['ignored_namespace', 'finished', 'unscheduled', 'node_unknown'], 'each with its reason')
})

void t.test('classes', async t => {
  const cluster = new MadeUpCluster()
  cluster.addPod('a')
  for (const className of ['', 'blue', 'green']) {
    cluster.addSpiffeId(`of-${className}`, { className, spiffeIDTemplate: `spiffe://example.org/${className || 'none'}` })
  }
  const names = (keys: Readonly<Record<string, unknown>>) => declared(desire(cluster, keys)).map(({ by }) => by).join()
  t.equal(names({}), 'of-')
  t.equal(names({ className: 'blue' }), 'of-blue')
  t.equal(names({ className: 'blue', watchClassless: true }), 'of-blue,of-')
})

void t.test('hostile labels and annotations', async t => {
  const cluster = new MadeUpCluster()
  cluster.addSpiffeId('labelled', { spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/app/{{ index .PodMeta.Annotations "app" }}' })
  cluster.addPod('good', { annotations: { app: 'web' } })
  const hostile = ['a/../../admin', '../admin', '..', '.', '', 'a/b', 'a%2fb', 'a?b', 'a#b', 'a b', 'ä', '{{ .TrustDomain }}', 'a\0b', '/']
  for (const [index, app] of hostile.entries()) cluster.addPod(`bad-${index}`, { annotations: { app } })
  const desired = desire(cluster)
  t.strictSame(declared(desired), [{ by: 'labelled', id: 'spiffe://example.org/app/web' }])
  const [resource] = cluster.ids
  const told = resource && desired.statsOf(resource, cluster)
  t.equal(told?.stats.podEntryRenderFailures, hostile.length)
  t.match(told?.reasons[0], /^pod shop\/bad-0: spiffeIDTemplate: \.PodMeta\.Annotations "app" holds "\/"/)
  const ids: Record<string, RegExp> = {
    'spiffe://{{ .PodMeta.Annotations.app }}/x': /outside of the trust domain/,
    'spiffe://other.test/{{ .PodMeta.Name }}': /outside of the trust domain example\.org/,
    'spiffe://{{ .TrustDomain }}.evil.test/x': /outside of the trust domain/,
    'spiffe://{{ .TrustDomain }}/spire/server': /spire/,
    'https://{{ .TrustDomain }}/x': /ID-01|scheme/,
    'spiffe://{{ .TrustDomain }}': /path|spiffe/
  }
  for (const [spiffeIDTemplate, rule] of Object.entries(ids)) {
    const other = new MadeUpCluster()
    other.addPod('good', { annotations: { app: 'web' } })
    other.addSpiffeId('one', { spiffeIDTemplate })
    const result = desire(other)
    t.equal(result.size, 0, spiffeIDTemplate)
    t.match(result.outcomeOf('pod-shop-good')?.skips[0], { reason: 'render_failed', rule }, spiffeIDTemplate)
  }
})

void t.test('specs that cannot be read declare nothing', async t => {
  const table: Record<string, [Readonly<Record<string, unknown>>, RegExp]> = {
    template: [{ spiffeIDTemplate: '{{ lower .PodMeta.Name }}' }, /^spec\.spiffeIDTemplate: at character 4: there is no function lower/],
    empty: [{ spiffeIDTemplate: '' }, /^spec\.spiffeIDTemplate: must not be empty/],
    dns: [{ dnsNameTemplates: ['{{'] }, /^spec\.dnsNameTemplates: /],
    ttl: [{ ttl: 'soon' }, /^spec\.ttl: must be a duration/],
    negative: [{ ttl: '-5s' }, /^spec\.ttl: /],
    domain: [{ federatesWith: ['UPPER'] }, /^spec\.federatesWith: trust domain/],
    operator: [{ podSelector: { matchExpressions: [{ key: 'a', operator: 'Near', values: ['x'] }] } }, /^spec\.podSelector/],
    values: [{ podSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } }, /In and NotIn need values|in and NotIn need values/],
    selector: [{ namespaceSelector: { matchLables: { a: 'b' } } }, /^spec\.namespaceSelector/]
  }
  for (const [name, [spec, message]] of Object.entries(table)) {
    const cluster = new MadeUpCluster()
    cluster.addPod('a')
    cluster.addSpiffeId(name, spec)
    t.match(cluster.ids[0]?.spec, { error: { code: 'resource_malformed', message } }, name)
    t.equal(desire(cluster).size, 0, `${name}: a selector that cannot be read selects nothing, rather than everything`)
  }
})

void t.test('fallbacks and conflicts', async t => {
  const cluster = new MadeUpCluster()
  cluster.addPod('a', { labels: { app: 'web' } })
  cluster.addPod('b')
  cluster.addSpiffeId('fallback', { fallback: true, spiffeIDTemplate: 'spiffe://example.org/fallback' })
  cluster.addSpiffeId('web', { podSelector: { matchLabels: { app: 'web' } }, spiffeIDTemplate: 'spiffe://example.org/web' })
  const both = [{ by: 'fallback', id: 'spiffe://example.org/fallback' }, { by: 'web', id: 'spiffe://example.org/web' }]
  t.strictSame(declared(desire(cluster)), both, 'a fallback is for pods that no other one selects')
  cluster.ids = cluster.ids.slice(0, 1)
  cluster.addSpiffeId('broken', {
    podSelector: { matchLabels: { app: 'web' } }, spiffeIDTemplate: 'spiffe://example.org/{{ .PodMeta.Annotations.none }}'
  })
  t.strictSame(declared(desire(cluster)), [both[0]], 'one whose template fails for a pod does not make it fall back')

  const same = new MadeUpCluster()
  const uid = same.addPod('a')
  same.addSpiffeId('younger', {}, { creationTimestamp: '2026-02-02T00:00:00Z', uid: 'u1' })
  same.addSpiffeId('older', { hint: 'older' }, { creationTimestamp: '2026-02-01T00:00:00Z', uid: 'u9' })
  same.addSpiffeId('twin', {}, { creationTimestamp: '2026-02-01T00:00:00Z', uid: 'u10' })
  same.addSpiffeId('leaving', {}, { creationTimestamp: '2026-02-01T00:00:00Z', uid: 'u0', deletionTimestamp: '2026-03-01T00:00:00Z' })
  same.addStatic('static', {
    spiffeID: 'spiffe://example.org/ns/shop/sa/web', parentID: demoParent, selectors: [`k8s:pod-uid:${uid}`]
  })
  const desired = desire(same)
  t.equal(desired.size, 1)
  const order = [...desired.keys()].flatMap(key => desired.of(key).map(({ by }) => by.name))
  t.strictSame(order, ['static', 'twin', 'older', 'leaving', 'younger'], 'the oldest counts, then who stays, then the lower UID')
})

void t.test('static entries', async t => {
  const cluster = new MadeUpCluster()
  cluster.addStatic('good', { x509SVIDTTL: '1h', dnsNames: ['machine.test'], hint: 'm' })
  cluster.addStatic('domain', { spiffeID: 'spiffe://other.test/x' })
  cluster.addStatic('selector', { selectors: ['unix'] })
  const desired = desire(cluster)
  t.strictSame(declared(desired), [{ by: 'good', id: 'spiffe://example.org/machine' }])
  t.strictSame([...desired.staticFailures.keys()], ['uid-of-domain', 'uid-of-selector'])
  t.equal(desire(cluster, { reconcile: { clusterSPIFFEIDs: true } }).size, 0, 'a kind that is not reconciled declares nothing')
})

void t.test('looking at the pods that changed comes to the same as looking at all', async t => {
  const cluster = new MadeUpCluster()
  cluster.addSpiffeId('web', {
    podSelector: { matchLabels: { app: 'web' } }, spiffeIDTemplate: 'spiffe://example.org/{{ .PodMeta.Labels.id }}'
  })
  cluster.addSpiffeId('shop', { hint: 'shop' })
  const uids = ['a', 'b', 'c'].map(name => cluster.addPod(name, { labels: { app: 'web', id: name } }))
  const desired = desire(cluster)
  const before = [...desired.keys()]
  cluster.addPod('a', { labels: { app: 'web', id: 'other' } })
  cluster.podsByUid.delete(uids[1] as string)
  cluster.addPod('d', { labels: { app: 'web', id: 'd' } })
  const touched = desired.refreshPods([uids[0] as string, uids[1] as string, 'pod-shop-d', 'never-was'], cluster)
  const fresh = desire(cluster)
  t.strictSame([...desired.keys()].toSorted(), [...fresh.keys()].toSorted())
  for (const key of desired.keys()) t.strictSame(desired.of(key), fresh.of(key))
  const changed = [...new Set([...before, ...desired.keys()])].filter(key => !before.includes(key) || desired.of(key).length === 0)
  t.ok(changed.length > 0 && changed.every(key => touched.has(key)), 'all that changed is told')
})

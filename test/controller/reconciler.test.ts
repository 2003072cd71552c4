import t, { type Test } from 'tap'
import { parseControllerConfig } from '../../src/controller/controller-config.ts'
import type { ControllerMetrics } from '../../src/controller/controller-metrics.ts'
import type { Tenure } from '../../src/controller/kubernetes/lease.ts'
import { Reconciler } from '../../src/controller/reconcile/reconciler.ts'
import { ServerEntries } from '../../src/controller/server/server-entries.ts'
import { ServerFederation } from '../../src/controller/server/server-federation.ts'
import { resourceStatuses } from '../../src/controller/status/resource-statuses.ts'
import type { UseView } from '../../src/controller/status/use-saying.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import { eventually } from '../fakes/eventually.ts'
import { startTestServer } from '../fakes/server.ts'
import { Administrator } from '../interop/administrator.ts'
import { MadeUpCluster, trustDomain } from './cluster-fixture.ts'

const patienceMs = 60_000
const parent = 'spiffe://example.org/spire/agent/k8s_psat/demo/uid-of-worker-1'

/** A controller over a made-up cluster and a real server. */
async function setUp (t: Test, { fullEveryMs = 3_600_000 } = {}) {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const server = scope.use(await startTestServer())
  const admin = scope.use(new Administrator({ adminSocket: server.config.socketPath }))
  const cluster = new MadeUpCluster()
  const config = parseControllerConfig({ file: { name: 'c.json', text: JSON.stringify({ trustDomain, clusterName: 'demo' }) } })
  let note = ''
  let isLost = false
  const check = () => { if (isLost) throw new SpiffeError('lease_lost', 'lost') }
  const tenure: Tenure = { check, note: () => note, setNote: async text => { check(); note = text } }
  const lags: number[] = []
  const failed: string[] = []
  let rounds = 0
  const metrics: ControllerMetrics = {
    lag: seconds => lags.push(seconds), failed: cause => failed.push(cause), changed () {}, round () {}, restarted () {},
    used () {}, looked () {}
  }
  const entries = new ServerEntries(server.admin)
  const reconciler = new Reconciler({ scope: config.scope, prefix: config.entryIdPrefix, fullEveryMs }, {
    view: cluster, entries, federation: new ServerFederation(server.admin, trustDomain),
    clock: systemClock, log: silentLogger, metrics, onRound: () => { rounds++ }
  })
  const uses: UseView = { ignorance: 'early', of: () => 'waiting', serversOf: () => { throw new Error('nobody is waited for') } }
  const stop = new AbortController()
  const begin = () => {
    const running = reconciler.run(tenure, stop.signal)
    running.catch(() => {})
    return running
  }
  scope.defer(() => stop.abort())
  const paths = async () => (await admin.entries.listEntries({})).entries.map(({ spiffeId }) => spiffeId?.path ?? '').toSorted().join(' ')
  const becomes = async (wanted: string) => {
    let seen = ''
    await eventually(() => `entries are ${wanted}, but ${seen}`, async () => {
      seen = await paths()
      return seen === wanted
    }, patienceMs)
  }
  const statusOf = (name: string) => {
    const { desired, federation } = reconciler
    const all = [...resourceStatuses(desired, cluster, reconciler, federation, config.scope.cares, uses)]
    return all.find(({ resource }) => resource.name === name)
  }
  return {
    server, admin, cluster, entries, reconciler, begin, becomes, statusOf, lags, failed,
    rounds: () => rounds, note: () => note, lose: () => { isLost = true }, tenure, stop
  }
}

void t.test('pods, resources and what others do', async t => {
  const { admin, cluster, reconciler, begin, becomes, statusOf, lags, rounds } = await setUp(t, { fullEveryMs: 300 })
  cluster.addSpiffeId('pods', { spiffeIDTemplate: 'spiffe://example.org/{{ .PodMeta.Name }}' })
  cluster.addPod('a')
  const foreign = await admin.register('spiffe://example.org/b', parent, { selectors: [{ type: 'k8s', value: 'pod-uid:pod-shop-b' }] })
  await admin.register('spiffe://example.org/other', parent)
  void begin()
  await becomes('/a /b /other')
  reconciler.podChanged(cluster.addPod('c'))
  await becomes('/a /b /c /other')
  await eventually('the time from the event to the entry is told', () => lags.length === 1, patienceMs)
  reconciler.podChanged(cluster.addPod('b'))
  await eventually('the foreign entry is told', () => statusOf('pods')?.readiness.reason === 'Foreign', patienceMs)
  t.match(statusOf('pods'), {
    fields: { stats: { podsSelected: 3, entriesToSet: 3, entryFailures: 1, entriesMasked: 0 } },
    readiness: { ready: false, message: new RegExp(`spiffe://example.org/b: entry ${foreign} is somebody else's`) }
  })
  const own = (await admin.entries.listEntries({})).entries.find(({ spiffeId }) => spiffeId?.path === '/a')
  await admin.unregister(own?.id ?? '')
  await becomes('/a /b /c /other')
  await admin.unregister(foreign)
  await eventually('it makes its own', () => statusOf('pods')?.readiness.ready === true, patienceMs)
  const entry = (await admin.entries.listEntries({})).entries.find(({ spiffeId }) => spiffeId?.path === '/b')
  t.match(entry?.id, /^assay-controller\.demo\.\.[0-9a-f]{32}$/)

  cluster.ids = []
  cluster.addSpiffeId('pods', { spiffeIDTemplate: 'spiffe://example.org/new/{{ .PodMeta.Name }}', hint: 'x' })
  reconciler.clusterChanged()
  await becomes('/new/a /new/b /new/c /other')
  const before = rounds()
  await eventually('rounds go on', () => rounds() > before + 2, patienceMs)
  const revisions = (await admin.entries.listEntries({})).entries.map(({ revisionNumber }) => Number(revisionNumber))
  t.ok(revisions.every(revision => revision === 0), 'what is as it should be is not written again')
  cluster.podsByUid.clear()
  reconciler.podChanged('pod-shop-a')
  reconciler.podChanged('pod-shop-b')
  reconciler.podChanged('pod-shop-c')
  await becomes('/other')
})

void t.test('what the server refuses is told, and tried again', async t => {
  const { admin, cluster, begin, becomes, statusOf, failed } = await setUp(t)
  cluster.addStatic('needs-bundle', { federatesWith: ['partner.test'] })
  cluster.addStatic('good', { spiffeID: 'spiffe://example.org/good' })
  void begin()
  await becomes('/good')
  await eventually('it is told', () => statusOf('needs-bundle')?.readiness.reason === 'Refused', patienceMs)
  t.match(statusOf('needs-bundle'), { fields: { rendered: true, set: false, masked: false }, readiness: { message: /partner\.test/ } })
  t.match(statusOf('good'), { fields: { rendered: true, set: true, masked: false }, readiness: { ready: true } })
  t.ok(failed.includes('entry'))
  await admin.setBundle({ ...await admin.bundles.getBundle({}), trustDomain: 'partner.test' })
  await becomes('/good /machine')
  await eventually('it is ready', () => statusOf('needs-bundle')?.readiness.ready === true, patienceMs)
})

void t.test('that an entry was refused is told while it is tried again', async t => {
  const { cluster, entries, begin, statusOf } = await setUp(t, { fullEveryMs: 20 })
  cluster.addStatic('needs-bundle', { federatesWith: ['partner.test'] })
  const told: unknown[] = []
  const create = entries.create.bind(entries)
  entries.create = async (...words) => {
    told.push(statusOf('needs-bundle')?.readiness.reason)
    return await create(...words)
  }
  void begin()
  await eventually('it is tried in several rounds', () => told.length >= 8, patienceMs)
  t.same(new Set(told.slice(1)), new Set(['Refused']))
})

void t.test('relationships', async t => {
  const { server, cluster, reconciler, begin, statusOf, note } = await setUp(t)
  const api = server.admin.client(trustDomainService)
  const stored = async () => (await api.listFederationRelationships({})).federationRelationships
    .map(({ trustDomain, bundleEndpointUrl }) => `${trustDomain} ${bundleEndpointUrl}`).toSorted().join()
  await api.batchCreateFederationRelationship({
    federationRelationships: ['by-hand.test', 'both.test'].map(trustDomain => (
      { trustDomain, bundleEndpointUrl: `https://${trustDomain}/by-hand`, httpsWeb: {} }
    ))
  })
  cluster.addFederated('partner')
  cluster.addFederated('younger', { bundleEndpointURL: 'https://partner.test/other' })
  cluster.addFederated('both', { trustDomain: 'both.test', bundleEndpointURL: 'https://both.test/declared' })
  cluster.addFederated('self', { trustDomain: 'example.org' })
  void begin()
  const byHand = 'both.test https://both.test/by-hand,by-hand.test https://by-hand.test/by-hand'
  await eventually('one is made', async () => await stored() === `${byHand},partner.test https://partner.test/bundle`, patienceMs)
  await eventually('all is told', () => statusOf('both')?.readiness.reason === 'Foreign', patienceMs)
  t.equal(note(), '{"federation":["partner.test"]}', 'whose it is, is written down')
  t.strictSame(['partner', 'younger', 'self'].map(name => statusOf(name)?.readiness.reason), ['Reconciled', 'Masked', 'Malformed'])
  cluster.federated = cluster.federated.slice(1)
  reconciler.federationChanged()
  await eventually('the younger one counts', async () => (await stored()).includes('https://partner.test/other'), patienceMs)
  cluster.federated = []
  reconciler.federationChanged()
  await eventually('what nobody declares goes, if it was its own', async () => await stored() === byHand, patienceMs)
  await eventually('and is forgotten', () => note() === '', patienceMs)
})

void t.test('who lost the Lease writes nothing', async t => {
  const { admin, cluster, reconciler, begin, becomes, lose } = await setUp(t)
  cluster.addSpiffeId('pods', { spiffeIDTemplate: 'spiffe://example.org/{{ .PodMeta.Name }}' })
  cluster.addPod('a')
  const running = begin()
  await becomes('/a')
  lose()
  reconciler.podChanged(cluster.addPod('b'))
  await t.rejects(running, { code: 'lease_lost' })
  t.equal((await admin.entries.listEntries({})).entries.length, 1)
})

void t.test('a server that is away is waited for', async t => {
  const { server, cluster, reconciler, begin, failed } = await setUp(t)
  cluster.addSpiffeId('pods')
  cluster.addPod('a')
  void begin()
  await eventually('it is set', () => [...reconciler.desired.keys()].some(key => reconciler.isSet(key)), patienceMs)
  await server.admin[Symbol.asyncDispose]()
  reconciler.podChanged(cluster.addPod('b'))
  await eventually('it tries again and again', () => failed.filter(cause => cause === 'round').length > 1, patienceMs)
})

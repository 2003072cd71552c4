import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../fakes/eventually.ts'
import { RunningProcess, startAgent, startServer } from '../fakes/processes.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { startSpireServer, withoutSpireServer } from '../fakes/spire.ts'
import { Administrator } from '../interop/administrator.ts'
import { kubeApiserverMissing } from './build-kube-apiserver.ts'
import { installCustomResources } from './custom-resources.ts'
import { documentedObjects } from './documented-rules.ts'
import { RealCluster } from './real-cluster.ts'

const skip = kubeApiserverMissing()
const patienceMs = 120_000
const resources = '/apis/spire.spiffe.io/v1alpha1'

void t.test('a controller on a real API server', { skip }, async t => {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const folder = await mkdtemp(join(tmpdir(), 'assay-controller-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const kubernetes = scope.use(await RealCluster.start())
  await installCustomResources(kubernetes)
  // No more is needed.
  await kubernetes.grantServer(documentedObjects('controller.md', 'name: assay-controller')[0]?.['rules'])
  const nodeUid = await kubernetes.addNode('worker-1', {})
  await kubernetes.addAccount('web')
  const server = scope.use(await startServer())
  const admin = scope.use(new Administrator(server))
  const parent = `spiffe://example.org/spire/agent/k8s_psat/demo/${nodeUid}`
  const config = join(folder, 'controller.json')
  await writeFile(config, JSON.stringify({
    apiVersion: 'spire.spiffe.io/v1alpha1', kind: 'ControllerManagerConfig',
    trustDomain: 'example.org', clusterName: 'demo', spireServerSocketPath: server.adminSocket,
    kubeConfigFile: kubernetes.kubeconfig, gcInterval: '1s',
    leaderElection: { leaseDuration: '3s', renewDeadline: '2s', retryPeriod: '200ms' }
  }))
  const start = async () => {
    const process = new RunningProcess(['controller', 'run', '-config', config])
    scope.defer(() => process.kill9())
    await process.logged('controller has read the cluster')
    return process
  }
  const entries = async () => (await admin.entries.listEntries({})).entries
  const idsOf = async () => (await entries()).map(({ spiffeId }) => spiffeId?.path ?? '').toSorted()
  const entriesBecome = async (what: string, ids: readonly string[]) => {
    let seen: readonly string[] = []
    await eventually(() => `${what}: ${seen.join(' ')}`, async () => {
      seen = await idsOf()
      return seen.join(' ') === ids.toSorted().join(' ')
    }, patienceMs)
  }

  const use = async (plural: string, name: string) => {
    const { status } = await kubernetes.ask('GET', `${resources}/${plural}/${name}`)
    const { conditions = [] } = (status ?? {}) as { conditions?: Array<Record<string, string>> }
    const { status: said, reason, message } = conditions.find(({ type }) => type === 'InUse') ?? {}
    return `${said} ${reason}: ${message}`
  }
  const inUseBecomes = async (plural: string, name: string, wanted: string) => {
    let seen = ''
    await eventually(() => `${name} says ${wanted}, but ${seen}`, async () => {
      seen = await use(plural, name)
      return seen.startsWith(wanted)
    }, patienceMs)
  }

  // Somebody else's, before the controller came: one like what it will want, and one that nothing declares.
  await admin.register('spiffe://example.org/machine', 'spiffe://example.org/spire/agent/join_token/abc')
  const firstUid = await kubernetes.addPod('web-1', 'worker-1', 'web')
  const foreignId = await admin.register('spiffe://example.org/ns/spire/sa/web', parent, {
    selectors: [{ type: 'k8s', value: `pod-uid:${firstUid}` }], hint: 'by hand'
  })
  const leader = await start()
  await leader.logged('controller leads')
  const second = await start()

  await t.test('pods get entries', async t => {
    await kubernetes.ask('POST', `${resources}/clusterspiffeids`, {
      apiVersion: 'spire.spiffe.io/v1alpha1', kind: 'ClusterSPIFFEID', metadata: { name: 'pods' },
      spec: {
        spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}',
        podSelector: { matchLabels: { app: 'agent' } }, ttl: '30m', hint: 'pod'
      }
    })
    const uid = await kubernetes.addPod('web-2', 'worker-1', 'web')
    await entriesBecome('the pod has its entry', ['/machine', '/ns/spire/sa/web', '/ns/spire/sa/web'])
    const own = (await entries()).find(({ id }) => id.startsWith('assay-controller.demo..'))
    t.match(own, {
      spiffeId: { trustDomain: 'example.org', path: '/ns/spire/sa/web' },
      parentId: { path: `/spire/agent/k8s_psat/demo/${nodeUid}` },
      selectors: [{ type: 'k8s', value: `pod-uid:${uid}` }], x509SvidTtl: 1_800, hint: 'pod'
    })
    const foreign = (await entries()).find(({ id }) => id === foreignId)
    t.equal(foreign?.hint, 'by hand', 'the foreign entry is as it was')
    const status = async () => (await kubernetes.ask('GET', `${resources}/clusterspiffeids/pods`))['status'] as {
      stats?: Record<string, number>, conditions?: Array<Record<string, string>>
    } | undefined
    // Told once in a second: the first time maybe before the second pod came.
    await eventually('the resource tells it', async () => {
      const { stats, conditions } = await status() ?? {}
      return conditions?.[0]?.['reason'] === 'Foreign' && stats?.['podsSelected'] === 2
    }, patienceMs)
    t.match(await status(), {
      stats: { podsSelected: 2, entriesToSet: 2, entryFailures: 1, podEntryRenderFailures: 0 },
      conditions: [{ type: 'Ready', status: 'False', message: new RegExp(foreignId) }]
    })
    await admin.unregister(foreignId)
    const isReady = async () => (await status())?.conditions?.[0]?.['status'] === 'True'
    await eventually('with it gone the pod gets its own', isReady, patienceMs)
    await eventually('events tell both', async () => {
      const events = (await kubernetes.ask('GET', '/api/v1/namespaces/default/events'))['items'] as Array<{ reason: string }>
      return ['Foreign', 'Reconciled'].every(wanted => events.some(({ reason }) => reason === wanted))
    }, patienceMs)
  })

  await t.test('what is not its own is left, what others did to its own is undone', async t => {
    const own = (await entries()).filter(({ id }) => id.startsWith('assay-controller.demo..'))
    t.equal(own.length, 2)
    await admin.unregister(own[0]?.id ?? '')
    await entriesBecome('what was removed is there again', ['/machine', '/ns/spire/sa/web', '/ns/spire/sa/web'])
    await kubernetes.deletePod('web-1')
    await entriesBecome('a pod that is gone takes its entry along', ['/machine', '/ns/spire/sa/web'])
  })

  await t.test('slices give pods of their namespace the names of its services, and no others', async t => {
    const spec = {
      spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/named/{{ .PodMeta.Name }}', podSelector: { matchLabels: { app: 'agent' } },
      autoPopulateDNSNames: true
    }
    const kind = { apiVersion: 'spire.spiffe.io/v1alpha1', kind: 'ClusterSPIFFEID' }
    await kubernetes.ask('POST', `${resources}/clusterspiffeids`, { ...kind, metadata: { name: 'named' }, spec })
    const uid = await kubernetes.addPod('named', 'worker-1', 'web')
    const slice = async (namespace: string, name: string, service: string) => {
      await kubernetes.ask('POST', `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`, {
        apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4',
        metadata: { name, namespace, labels: { 'kubernetes.io/service-name': service } },
        endpoints: [{ addresses: ['10.0.0.9'], targetRef: { kind: 'Pod', namespace: 'spire', name: 'named', uid } }]
      })
    }
    await slice('spire', 'of-another', 'bank.vault.svc')
    await slice('default', 'from-outside', 'stranger')
    await slice('spire', 'of-its-own', 'web')
    let names: readonly string[] = []
    await eventually(() => `the pod has its service's names, but ${names.join(' ')}`, async () => {
      names = (await entries()).find(({ spiffeId }) => spiffeId?.path === '/named/named')?.dnsNames ?? []
      return names.includes('web.spire.svc')
    }, patienceMs)
    t.same(names, ['web', 'web.spire', 'web.spire.svc', 'web.spire.svc.cluster.local'])
    await kubernetes.ask('DELETE', `${resources}/clusterspiffeids/named`)
    await kubernetes.deletePod('named')
    await entriesBecome('nothing of it is left', ['/machine', '/ns/spire/sa/web'])
  })

  await t.test('plan says what run does', async t => {
    const plan = async (...words: string[]) => await runAssay(['controller', 'plan', '-config', config, ...words])
    const quiet = await plan()
    t.strictSame([quiet.code, quiet.stdout], [0, 'Plan: 0 to create, 0 to change, 0 to remove.\n'], quiet.stderr)
    const other = await plan('-className', 'other', '-output', 'json')
    t.equal(other.code, 0, 'a controller of another class would do nothing, to the entries of this one neither')
    await writeFile(`${config}.new`, JSON.stringify({
      ...JSON.parse(readFileSync(config, 'utf8')) as object,
      entryIDPrefix: 'assay-controller.demo.', parentIDTemplate: 'spiffe://example.org/{{ .NodeMeta.Name }}'
    }))
    const changed = await runAssay(['controller', 'plan', '-config', `${config}.new`])
    t.equal(changed.code, 5)
    t.match(changed.stdout, /^\+ entry spiffe:\/\/example\.org\/ns\/spire\/sa\/web \(ClusterSPIFFEID pods\)$/m)
    t.match(changed.stdout, /^ {6}parent spiffe:\/\/example\.org\/worker-1$/m)
    t.match(changed.stdout, /Plan: 1 to create, 0 to change, 0 to remove\.\n$/, 'entries with another prefix are somebody else\'s')
    const seen = await entries()
    t.equal(seen.filter(({ parentId }) => parentId?.path === '/worker-1').length, 0, 'and nothing was changed')
  })

  await t.test('entries and trust domains as they are written', async t => {
    const kind = (kind: string, plural: string, name: string, spec: object) => kubernetes.ask('POST', `${resources}/${plural}`, {
      apiVersion: 'spire.spiffe.io/v1alpha1', kind, metadata: { name }, spec
    })
    const readiness = async (plural: string, name: string) => {
      const { status } = await kubernetes.ask('GET', `${resources}/${plural}/${name}`)
      const { conditions, ...fields } = (status ?? {}) as { conditions?: Array<{ reason: string }>, set?: boolean }
      return { reason: conditions?.[0]?.reason, ...fields }
    }
    await kind('ClusterStaticEntry', 'clusterstaticentries', 'vm', {
      spiffeID: 'spiffe://example.org/vm', parentID: parent, selectors: ['unix:uid:77'], hint: 'vm'
    })
    await entriesBecome('the entry is there', ['/machine', '/ns/spire/sa/web', '/vm'])
    await eventually('and tells so', async () => {
      const { reason, set } = await readiness('clusterstaticentries', 'vm')
      // What is about to be made is in order, too.
      return reason === 'Reconciled' && set === true
    }, patienceMs)
    t.match(await readiness('clusterstaticentries', 'vm'), { rendered: true, masked: false, set: true })
    await kind('ClusterFederatedTrustDomain', 'clusterfederatedtrustdomains', 'partner', {
      trustDomain: 'partner.test', bundleEndpointURL: 'https://partner.test/bundle', bundleEndpointProfile: { type: 'https_web' }
    })
    const partners = async () => (await admin.relationships.listFederationRelationships({})).federationRelationships
      .map(({ trustDomain, bundleEndpointUrl }) => `${trustDomain} ${bundleEndpointUrl}`).join()
    await eventually('the relationship is there', async () => await partners() === 'partner.test https://partner.test/bundle', patienceMs)
    const isTold = async () => (await readiness('clusterfederatedtrustdomains', 'partner')).reason === 'Reconciled'
    await eventually('it is told', isTold, patienceMs)
    await kubernetes.ask('DELETE', `${resources}/clusterfederatedtrustdomains/partner`)
    await kubernetes.ask('DELETE', `${resources}/clusterstaticentries/vm`)
    await entriesBecome('what is not declared any more goes', ['/machine', '/ns/spire/sa/web'])
    await eventually('the relationship too', async () => await partners() === '', patienceMs)
  })

  await t.test('resources tell whether agents serve their entries', async t => {
    await inUseBecomes('clusterspiffeids', 'pods', `False NoAgent: 0 of 1 entries are in use; 1 without a live agent (${parent})`)
    const agent = await startAgent({ server })
    scope.defer(() => agent[Symbol.asyncDispose]())
    await kubernetes.ask('POST', `${resources}/clusterstaticentries`, {
      apiVersion: 'spire.spiffe.io/v1alpha1', kind: 'ClusterStaticEntry', metadata: { name: 'served' },
      spec: { spiffeID: 'spiffe://example.org/served', parentID: agent.id, selectors: ['unix:uid:77'] }
    })
    await inUseBecomes('clusterstaticentries', 'served', 'True Served: 1 of 1 entries are in use')
    const table = await kubernetes.table(`${resources}/clusterstaticentries`)
    t.match(table, /^Name \| .* \| In Use \| .*\nserved \| .* \| True \| /, 'kubectl get shows it')
    await agent[Symbol.asyncDispose]()
    await inUseBecomes('clusterstaticentries', 'served', `False NoAgent: 0 of 1 entries are in use; 1 without a live agent (${agent.id})`)
    await kubernetes.ask('DELETE', `${resources}/clusterstaticentries/served`)
    await entriesBecome('its entry is gone', ['/machine', '/ns/spire/sa/web'])
  })

  await t.test('the API server stops in the middle', async t => {
    await kubernetes.stopApiServer()
    await eventually('the leader is none any more', () => leader.lines().some(({ msg }) => msg === 'controller leads no more'), patienceMs)
    t.strictSame(await idsOf(), ['/machine', '/ns/spire/sa/web'], 'nothing was removed for what could not be seen')
    await kubernetes.startApiServer()
    await kubernetes.addPod('web-3', 'worker-1', 'web')
    await entriesBecome('it goes on', ['/machine', '/ns/spire/sa/web', '/ns/spire/sa/web'])
  })

  await t.test('the leader is killed', async t => {
    const leads = (process: RunningProcess) => {
      const last = process.lines().findLast(({ msg }) => String(msg).startsWith('controller leads'))
      return last?.['msg'] === 'controller leads'
    }
    await eventually('one leads', () => leads(leader) !== leads(second), patienceMs)
    const [first, other] = leads(leader) ? [leader, second] : [second, leader]
    await first.kill9()
    await kubernetes.addPod('web-4', 'worker-1', 'web')
    await entriesBecome('the other one goes on', ['/machine', '/ns/spire/sa/web', '/ns/spire/sa/web', '/ns/spire/sa/web'])
    await eventually('it leads', () => leads(other), patienceMs)
    t.equal(await other.stop(), 0, 'and ends in order')
  })

  await t.test('with SPIRE\'s server it is not known who serves an entry', { skip: withoutSpireServer }, async t => {
    await using spire = await startSpireServer()
    await using spireAdmin = new Administrator(spire)
    await writeFile(`${config}.spire`, JSON.stringify({
      ...JSON.parse(readFileSync(config, 'utf8')) as object, className: 'spire', spireServerSocketPath: spire.adminSocket
    }))
    const process = new RunningProcess(['controller', 'run', '-config', `${config}.spire`])
    scope.defer(() => process.kill9())
    await kubernetes.ask('POST', `${resources}/clusterstaticentries`, {
      apiVersion: 'spire.spiffe.io/v1alpha1', kind: 'ClusterStaticEntry', metadata: { name: 'at-spire' },
      spec: { className: 'spire', spiffeID: 'spiffe://example.org/vm', parentID: parent, selectors: ['unix:uid:77'] }
    })
    await inUseBecomes('clusterstaticentries', 'at-spire', 'Unknown ServerCannotTell: ')
    const paths = async () => (await spireAdmin.entries.listEntries({})).entries.map(({ spiffeId }) => spiffeId?.path).join()
    await eventually('though it is there', async () => await paths() === '/vm', patienceMs)
    t.equal(await process.stop(), 0)
  })
})

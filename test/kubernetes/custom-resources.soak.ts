import t from 'tap'
import { runAssay } from '../fakes/run-assay.ts'
import { controllerManagerRules } from './controller-manager.ts'
import { eventually } from '../fakes/eventually.ts'
import { kubeApiserverMissing } from './build-kube-apiserver.ts'
import { refused, taken } from './custom-resource-examples.ts'
import { createResource, installCustomResources } from './custom-resources.ts'
import { RealCluster } from './real-cluster.ts'

const skip = kubeApiserverMissing()
const dryRun = '?dryRun=All&fieldValidation=Strict'

void t.test('custom resources at a real API server', { skip }, async t => {
  await using cluster = await RealCluster.start()
  await installCustomResources(cluster)

  await t.test('what users of SPIRE have is taken as it is', async t => {
    for (const [what, resource] of Object.entries(taken)) {
      const stored = await createResource(cluster, resource, dryRun)
      t.match(stored['spec'], (resource as { spec: object }).spec, what)
    }
  })

  await t.test('what can only go wrong is refused, and why', async t => {
    for (const [what, resource, message] of refused) await t.rejects(createResource(cluster, resource, dryRun), { message }, what)
  })

  await t.test('status is written beside the spec', async t => {
    const { metadata, ...rest } = await createResource(cluster, Object.values(taken)[0] as object)
    const { name } = metadata as { name: string }
    const condition = { type: 'Ready', status: 'True', reason: 'Reconciled', message: '', lastTransitionTime: '2026-01-01T00:00:00Z' }
    const status = { stats: { podsSelected: 3, entriesToSet: 2 }, observedGeneration: 1, conditions: [condition] }
    const path = `/apis/spire.spiffe.io/v1alpha1/clusterspiffeids/${name}/status?fieldValidation=Strict`
    const stored = await cluster.ask('PUT', path, { ...rest, metadata, spec: { spiffeIDTemplate: 'spiffe://other/x' }, status })
    t.same(stored['status'], status)
    t.same(stored['spec'], rest['spec'], 'which stays as it is')

    const lint = async () => await runAssay(['controller', 'lint', '-kubeconfig', cluster.kubeconfig])
    t.match(await lint(), { code: 1, stderr: /status 403/ }, 'lint of a cluster without rights there')
    await cluster.grantServer(controllerManagerRules)
    await eventually('the rights count', async () => (await lint()).code === 0, 60_000)
    t.match((await lint()).stdout, `ClusterSPIFFEID/${name}: warning: has no namespaceSelector`)
  })

  await t.test('what means too many is taken, and told of', async t => {
    const wide: Readonly<Record<string, object>> = {
      'every-pod': {},
      'system-namespace': { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'kube-system' } } },
      'all-but-some': { namespaceSelector: { matchExpressions: [{ key: 'env', operator: 'NotIn', values: ['dev'] }] } },
      'one-id-for-all': { spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/everybody' },
      'admin-for-many': { admin: true }
    }
    const usual = 'spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/{{ .PodMeta.Name }}'
    for (const [name, spec] of Object.entries(wide)) {
      await createResource(cluster, {
        apiVersion: 'spire.spiffe.io/v1alpha1', kind: 'ClusterSPIFFEID', metadata: { name }, spec: { spiffeIDTemplate: usual, ...spec }
      })
    }
    const { code, stdout } = await runAssay(['controller', 'lint', '-kubeconfig', cluster.kubeconfig, '-output', 'json'])
    t.equal(code, 5, 'the worst of it is an error')
    const { findings } = JSON.parse(stdout) as { findings: Array<{ about: string, code: string }> }
    for (const name of Object.keys(wide)) {
      t.ok(findings.some(({ about, code }) => code === name && about === `ClusterSPIFFEID/${name}`), name)
    }
  })
})

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
})

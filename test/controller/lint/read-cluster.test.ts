import t from 'tap'
import { lintManifests } from '../../../src/controller/lint/lint-manifests.ts'
import { readCluster } from '../../../src/controller/lint/read-cluster.ts'

const spec = { spiffeIDTemplate: 'spiffe://{{ .TrustDomain }}/{{ .PodMeta.Namespace }}' }

void t.test('the custom resources of a cluster', async t => {
  const asked: string[] = []
  const manifests = await readCluster(async path => {
    asked.push(path)
    if (!path.includes('clusterspiffeids')) return { items: [] }
    const first = path.endsWith('continue=')
    return { metadata: first ? { continue: 'a/b' } : {}, items: [{ metadata: { name: first ? 'one' : 'two' }, spec }] }
  })
  t.same(asked.map(path => path.split('/').at(-1)), [
    'clusterspiffeids?limit=20&continue=', 'clusterspiffeids?limit=20&continue=a%2Fb',
    'clusterstaticentries?limit=20&continue=', 'clusterfederatedtrustdomains?limit=20&continue='
  ], 'page by page')
  t.same(lintManifests(manifests).map(({ code, about, where }) => [code, about, where]), [
    ['every-pod', 'ClusterSPIFFEID/one', undefined],
    ['every-pod', 'ClusterSPIFFEID/two', undefined],
    ['duplicate-id', 'ClusterSPIFFEID/two', undefined]
  ])
  await t.rejects(readCluster(async () => undefined), { code: 'kubernetes_unreachable', message: /has no ClusterSPIFFEID/ })
  const endless = readCluster(async () => ({ metadata: { continue: 'again' }, items: [] }))
  await t.rejects(endless, { message: /more than 50000/ }, 'a list without end')
})

import t from 'tap'
import { KubeClient } from '../../src/controller/kubernetes/kube-client.ts'
import { KubeApi } from '../fakes/kube-api.ts'

void t.test('pods that are as large as pods may be do not keep anybody from reading all of them', async t => {
  const api = await KubeApi.start(t.testdir({}))
  t.teardown(() => api[Symbol.asyncDispose]())
  // Who may create pods may make them so.
  const annotations = { note: 'x'.repeat(200_000) }
  const all = Array.from({ length: 120 }, (_, index) => ({ metadata: { name: `pod-${index}`, uid: `uid-${index}`, annotations } }))
  const limits: number[] = []
  api.besides = (_method, path) => {
    const query = new URL(path, 'https://api').searchParams
    const [limit, from] = [Number(query.get('limit')), Number(query.get('continue') ?? 0)]
    limits.push(limit)
    const next = from + limit < all.length ? { continue: String(from + limit) } : {}
    return [200, { metadata: { resourceVersion: '7', ...next }, items: all.slice(from, from + limit) }]
  }
  await using client = KubeClient.of(api.kubeconfig)
  const signal = AbortSignal.timeout(60_000)
  const names: string[] = []
  for await (const { items } of client.list('/api/v1/pods', signal)) names.push(...items.map(({ metadata }) => metadata.name))
  t.same(names, all.map(({ metadata }) => metadata.name), 'each once, in order')
  t.same(limits, [250, 25, 25, 25, 25, 25], 'in smaller pages once a page was too large')

  all.length = 1
  annotations.note = 'x'.repeat(17 * 1024 * 1024)
  const read = async () => { for await (const page of client.list('/api/v1/pods', signal)) void page }
  await t.rejects(read(), { code: 'kubernetes_unreachable', message: /more than \d+ bytes/ }, 'one that no server stores is too large')
})

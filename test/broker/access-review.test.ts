import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ApiServer } from '../../src/attestation/kubernetes/api-server.ts'
import { createPodAccess } from '../../src/attestation/workload/k8s/access-review.ts'
import { whileAllowed } from '../../src/broker/while-allowed.ts'
import { parseSelector } from '../../src/spiffe/selector.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { fakeCall } from '../fakes/call-context.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { KubeApi } from '../fakes/kube-api.ts'

const broker = parseSpiffeId('spiffe://example.org/broker')
const stranger = parseSpiffeId('spiffe://example.org/stranger')
const web = ['unix:uid:0', 'k8s:ns:shop', 'k8s:sa:web', 'k8s:pod-name:web-1'].map(parseSelector)
const allowed = `${broker} impersonate-via-spire pods shop/web-1`
const { signal } = new AbortController()

async function setUp (t: Test, accessPolicy: 'enforced' | 'permissive' = 'enforced') {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const folder = await mkdtemp(join(tmpdir(), 'review-'))
  scope.defer(() => rm(folder, { recursive: true, force: true }))
  const api = scope.use(await KubeApi.start(folder))
  const { kubeconfig } = api
  const access = createPodAccess({ accessPolicy, brokers: new Set([broker]), kubeconfig }, scope.use(ApiServer.of(kubeconfig)))
  return { api, access, review: async (id = broker, selectors = web) => await access.review(id, selectors, signal) }
}

void t.test('the cluster says which pods a broker may have', async t => {
  const { api, review } = await setUp(t)
  const denied = { code: 'reference_not_allowed' }
  await t.rejects(review(), { ...denied, message: /does not let spiffe:\/\/example\.org\/broker impersonate-via-spire pod shop\/web-1/ })
  t.strictSame(api.reviews, [{
    user: 'spiffe://example.org/broker',
    resourceAttributes: { verb: 'impersonate-via-spire', group: '', resource: 'pods', namespace: 'shop', name: 'web-1' }
  }], 'SPIRE\'s question: the broker\'s ID as the user, no groups')
  api.allowed.add(allowed)
  await t.resolves(review())
  await t.rejects(review(stranger), { ...denied, message: /not among the k8s attestor's brokers/ }, 'a broker that is not listed')
  t.equal(api.reviews.length, 2, 'of which the cluster is not asked')
  await t.resolves(review(stranger, [parseSelector('unix:uid:0')]), 'what is in no pod is no cluster\'s affair')
  await api[Symbol.asyncDispose]()
  await t.rejects(review(), { code: 'kubernetes_unreachable', status: undefined }, 'nobody to ask is not a yes')
})

void t.test('permissive: whoever the attestor is told of', async t => {
  const { api, review } = await setUp(t, 'permissive')
  await t.resolves(review())
  await t.rejects(review(stranger), { code: 'reference_not_allowed' })
  t.strictSame(api.reviews, [])
})

void t.test('a right that is taken away ends the stream', async t => {
  const { api, access } = await setUp(t)
  const clock = new ManualClock()
  let disposed = 0
  const workload = {
    selectors: web, ended: new AbortController().signal, check () {}, [Symbol.dispose]: () => { disposed++ }
  }
  const follow = async () => await whileAllowed(workload, signal => access.review(broker, web, signal), fakeCall(), clock)
  await t.rejects(follow(), { code: 'reference_not_allowed' })
  t.equal(disposed, 1, 'what is refused is not followed')

  api.allowed.add(allowed)
  using followed = await follow()
  followed.check()
  const reviewed = async (times: number) => {
    await clock.advance(60_000)
    await eventually('the next review is over', () => api.reviews.length === times && clock.sleeping === 1)
  }
  await reviewed(3)
  api.fails = true
  await clock.advance(60_000)
  await eventually('a review that fails', () => api.calls.length === 4 && clock.sleeping === 1)
  t.notOk(followed.ended.aborted, 'an API server that is away takes nothing away')
  api.fails = false
  api.allowed.clear()
  await clock.advance(60_000)
  await eventually('the end', () => followed.ended.aborted)
  t.match(followed.ended.reason, { code: 'reference_not_allowed' })
  t.throws(() => followed.check(), { code: 'reference_not_allowed' })
})

import t from 'tap'
import { labelsAt } from '../../src/agent/agent-pods.ts'
import { ApiServer } from '../../src/attestation/kubernetes/api-server.ts'
import { createPodAccess } from '../../src/attestation/workload/k8s/access-review.ts'
import { whileAllowed } from '../../src/broker/while-allowed.ts'
import { enrolmentOf } from '../../src/mesh/pods/enrolment.ts'
import { NamespaceLabels } from '../../src/mesh/pods/namespace-labels.ts'
import { parseSelector } from '../../src/spiffe/selector.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { fakeCall } from '../fakes/call-context.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { kubeApiserverMissing } from './build-kube-apiserver.ts'
import { changeObject } from './custom-resources.ts'
import { documentedObjects } from './documented-rules.ts'
import { RealCluster } from './real-cluster.ts'

const skip = kubeApiserverMissing()
const patienceMs = 120_000
const label = 'assay.io/mesh'
const broker = parseSpiffeId('spiffe://example.org/node-proxy')
const { signal } = new AbortController()
const isDenied = { code: 'reference_not_allowed' }
const isAway = { code: 'kubernetes_unreachable' }

type Rules = { readonly rules: readonly object[] }

/** What docs/broker.md and docs/mesh-kubernetes.md give an agent's account. */
function agentRules (): readonly object[] {
  const [role] = documentedObjects('broker.md', 'assay-agent-reviews')
  const [namespaces] = documentedObjects('mesh-kubernetes.md', 'resources: [namespaces]')
  const rules = Object.values(namespaces ?? {}) as readonly object[]
  return [...(role as unknown as Rules).rules, ...rules]
}

void t.test('what an agent asks a real API server', { skip }, async t => {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const kubernetes = scope.use(await RealCluster.start())
  const api = scope.use(ApiServer.of(kubernetes.kubeconfig))
  const clock = new ManualClock()
  const namespaces = new NamespaceLabels({ fetch: labelsAt(api), clock })
  const access = createPodAccess({ accessPolicy: 'enforced', brokers: new Set([broker]), kubeconfig: kubernetes.kubeconfig }, api)
  const inNamespace = (name: string) => [`k8s:ns:${name}`, 'k8s:pod-name:web-1'].map(parseSelector)
  const review = async (name = 'shop') => await access.review(broker, inNamespace(name), signal)
  for (const name of ['shop', 'bank']) await kubernetes.ask('POST', '/api/v1/namespaces', { metadata: { name } })
  const relabel = async (labels: object) => await changeObject(kubernetes, '/api/v1/namespaces/shop', stored => ({
    ...stored, metadata: { ...stored['metadata'] as object, labels }
  }))
  const isEnrolled = async (pod = {}) => enrolmentOf(label, pod, await namespaces.now('shop', signal)).enrolled
  const bindings = '/apis/rbac.authorization.k8s.io/v1/namespaces/shop'
  const grant = async () => {
    const [, role, binding] = documentedObjects('broker.md', 'assay-agent-reviews')
    await kubernetes.ask('POST', `${bindings}/roles`, role)
    await kubernetes.ask('POST', `${bindings}/rolebindings`, binding)
  }
  const withdraw = async () => {
    for (const kind of ['rolebindings', 'roles']) await kubernetes.ask('DELETE', `${bindings}/${kind}/node-proxy-pods`)
  }
  const becomes = async (what: string, wanted: boolean) => {
    const answer = () => review().then(() => 'yes', (error: { code?: string }) => error.code)
    await eventually(what, async () => await answer() === (wanted ? 'yes' : isDenied.code), patienceMs)
  }

  await t.test('without its rights it knows nothing, which is no yes', async t => {
    await t.rejects(review(), { ...isAway, message: /status 403/ })
    await t.rejects(namespaces.now('shop', signal), { ...isAway, message: /status 403/ })
    await kubernetes.grantServer(agentRules())
    await eventually('the rights count', () => namespaces.now('shop', signal).then(() => true, () => false), patienceMs)
  })

  await t.test('which pods a broker may have', async t => {
    await becomes('nobody has said yes', false)
    await grant()
    await becomes('the role counts', true)
    await t.rejects(review('bank'), isDenied, 'in its namespace alone')
    await t.rejects(access.review(parseSpiffeId('spiffe://example.org/other'), inNamespace('shop'), signal), isDenied)
    await withdraw()
    await becomes('a role that is gone does not', false)
  })

  await t.test('which pods belong to the mesh', async t => {
    t.equal(await isEnrolled(), false)
    await relabel({ [label]: 'enabled' })
    t.equal(await isEnrolled(), true)
    t.equal(await isEnrolled({ [label]: 'disabled' }), false, 'a pod\'s own label decides')
    await relabel({ [label]: 'disabled' })
    t.equal(await isEnrolled(), false)
    t.strictSame(await namespaces.now('nowhere', signal), {}, 'of a namespace that is not there')
  })

  await t.test('the API server stops in the middle', async t => {
    await grant()
    await relabel({ [label]: 'enabled' })
    await becomes('the broker may', true)
    t.equal(await isEnrolled(), true)
    const workload = { selectors: inNamespace('shop'), ended: new AbortController().signal, check () {}, [Symbol.dispose] () {} }
    let reviews = 0
    const counted = async (signal: AbortSignal) => {
      reviews++
      await access.review(broker, workload.selectors, signal)
    }
    const call = { ...fakeCall(), signal }
    using followed = await whileAllowed(workload, counted, call, clock)
    await kubernetes.stopApiServer()

    await t.rejects(review(), isAway, 'what begins is refused')
    await eventually('a look falls into it', async () => {
      await clock.advance(30_000)
      return reviews > 1
    }, patienceMs)
    t.notOk(followed.ended.aborted, 'what goes on is left alone')
    const before = clock.monotonicMs()
    t.strictSame(await namespaces.refresh(new Set(['shop']), signal).then(({ failed }) => failed), 1)
    t.match(namespaces.known('shop'), { [label]: 'enabled' }, 'pods that run stay what they are')
    await clock.advance(61_000)
    t.ok(clock.monotonicMs() > before + 60_000)
    await t.rejects(isEnrolled(), isAway, 'one that starts is not decided about by what is old')

    await kubernetes.startApiServer()
    await becomes('the same connection asks again', true)
    t.equal(await isEnrolled(), true)
    await relabel({ [label]: 'disabled' })
    t.equal(await isEnrolled(), false, 'and hears what changed')
    await withdraw()
    await becomes('the broker may not any more', false)
    await eventually('its stream ends', async () => {
      await clock.advance(30_000)
      return followed.ended.aborted
    }, patienceMs)
    t.match(followed.ended.reason, isDenied)
  })
})

import { statSync } from 'node:fs'
import t from 'tap'
import { enrolmentOf } from '../../src/mesh/pods/enrolment.ts'
import { NamespaceLabels } from '../../src/mesh/pods/namespace-labels.ts'
import type { Labels } from '../../src/mesh/pods/node-pod.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { ManualClock } from '../fakes/clock.ts'
import { label, openBench, podOf, signal, skip } from '../fakes/pod-bench.ts'

void t.test('what labels say', async t => {
  const cases: [what: string, pod: Labels, namespace: Labels | undefined, enrolled: boolean][] = [
    ['nothing', {}, {}, false],
    ['the namespace', {}, { [label]: 'enabled' }, true],
    ['the pod, against its namespace', { [label]: 'disabled' }, { [label]: 'enabled' }, false],
    ['the pod, for itself', { [label]: 'enabled' }, { [label]: 'disabled' }, true],
    ['the pod, where namespaces do not count', { [label]: 'enabled' }, undefined, true],
    ['nothing that counts', {}, undefined, false]
  ]
  for (const [what, pod, namespace, enrolled] of cases) t.match(enrolmentOf(label, pod, namespace), { enrolled, mistaken: [] }, what)
  t.match(enrolmentOf(label, { [label]: 'true' }, { [label]: 'enabled' }),
    { enrolled: true, mistaken: [/the pod's label assay.io\/mesh is "true", neither enabled nor disabled/] },
    'another word says nothing, and is told of')
})

void t.test('labels of namespaces', async t => {
  const clock = new ManualClock()
  const said = new Map<string, Labels>([['shop', { a: '1' }], ['bank', { b: '1' }]])
  const asked: string[] = []
  let isAway = false
  const namespaces = new NamespaceLabels({
    async fetch (name) {
      asked.push(name)
      if (isAway) throw new SpiffeError('kubernetes_unreachable', 'away')
      return said.get(name)
    },
    clock
  })
  t.equal(namespaces.known('shop'), undefined)
  t.match(await namespaces.refresh(new Set(['shop', 'bank']), signal), { failed: 0 })
  t.strictSame(asked.toSorted(), ['bank', 'shop'], 'none is asked for that has no pod here')
  t.strictSame(namespaces.known('bank'), { b: '1' })
  isAway = true
  await clock.advance(59_000)
  t.strictSame(await namespaces.now('shop', signal), { a: '1' }, 'for want of an answer, that of the last minute')
  t.match(await namespaces.refresh(new Set(['shop']), signal), { failed: 1, reason: { code: 'kubernetes_unreachable' } })
  t.strictSame(namespaces.known('shop'), { a: '1' }, 'pods that run stay what they are')
  await clock.advance(2_000)
  await t.rejects(namespaces.now('shop', signal), { code: 'kubernetes_unreachable' }, 'an older one is too old for a pod that starts')
  isAway = false
  said.delete('shop')
  t.strictSame(await namespaces.now('shop', signal), { a: '1' }, 'of a namespace that is being removed')
  t.equal(namespaces.known('bank'), undefined, 'what has no pods any more is forgotten')
})

void t.test('labels that change while a pod runs', { skip }, async t => {
  const bench = await openBench(t)
  const { network, pods, labels, done, away } = bench
  network.addPod('a', '10.77.0.2', { redirected: false })
  labels.set('shop', {})
  const pod = podOf('web')
  pods.set(pod.uid, pod)
  await bench.give(pod, '/web')
  t.match(await bench.announce(pod, 'c1', 'a'), { kind: 'left_alone' })
  labels.set('shop', { [label]: 'enabled' })
  await bench.look()
  t.strictSame(done, ['rules', 'arrived'])
  pods.set(pod.uid, podOf('web', { [label]: 'disabled' }))
  await bench.look()
  t.strictSame(done, ['rules', 'arrived', 'no rules', 'left'], 'without a moment in which its connections are refused')
  pods.set(pod.uid, pod)
  await bench.look()
  t.ok(bench.ruledAt('a'))
  for (const who of ['kubelet', 'api'] as const) {
    away.add(who)
    labels.set('shop', {})
    if (who === 'kubelet') pods.clear()
    await bench.look()
    t.ok(bench.ruledAt('a'), `while the ${who} does not answer it stays what it is`)
    away.clear()
    pods.set(pod.uid, pod)
    labels.set('shop', { [label]: 'enabled' })
  }
  t.ok(bench.warnings.includes('undecided'))
  pods.clear()
  await bench.look()
  t.ok(bench.ruledAt('a'), 'one that the kubelet has dropped too, until its namespace goes')

  const renamed = podOf('web', { team: 'b' })
  pods.set(pod.uid, renamed)
  await bench.give(renamed, '/web-b')
  await bench.look()
  t.match(bench.registry.state.workloads, [{ id: 'spiffe://lab.test/web-b' }], 'labels are what it is known by, too')
  pods.set(pod.uid, podOf('web', { [label]: 'yes' }))
  await bench.look()
  t.ok(bench.warnings.includes('label_unknown'))
  network.removePod('a')
  await bench.look()
  t.strictSame(bench.registry.arrivals, [], 'it goes with its namespace, though nobody said so')
})

void t.test('an answer of before does not undo what was told since', { skip }, async t => {
  const bench = await openBench(t, { namespaced: false })
  const { network, pods, clock } = bench
  network.addPod('a', '10.77.0.2', { redirected: false })
  const enabled = podOf('web', { [label]: 'enabled' })
  pods.set(enabled.uid, enabled)
  await bench.give(enabled, '/web')
  const uid = `${enabled.uid}-${statSync(network.path('a')).ino}`
  bench.serve(uid)
  await bench.announce(enabled, 'c1', 'a')
  const sandbox = bench.mesh.enrolment.find('c1')
  t.equal(sandbox?.want({ enrolled: false, selectors: [], why: 'as it was', askedAtMs: clock.monotonicMs() - 1 }), false)
  t.equal(sandbox?.wanted.enrolled, true)
})

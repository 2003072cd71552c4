import { readFileSync, statSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { announcePod, checkPod } from '../../src/mesh/pods/announce-pod.ts'
import { PodEnrolment } from '../../src/mesh/pods/pod-enrolment.ts'
import { settle } from '../fakes/clock.ts'
import { identityOf, TestTrustDomain } from '../fakes/identities.ts'
import { label, openBench, podOf, signal, skip } from '../fakes/pod-bench.ts'

void t.test('a pod that starts', { skip }, async t => {
  const bench = await openBench(t)
  const { network, pods, labels, done } = bench
  network.addPod('a', '10.77.0.2', { redirected: false })
  labels.set('shop', { [label]: 'enabled' })
  const pod = podOf('web')
  pods.set(pod.uid, pod)
  await bench.give(pod, '/web')
  const starting = bench.announce(pod, 'c1', 'a')
  await bench.served.untilKnown(`${pod.uid}-${statSync(network.path('a')).ino}`, signal)
  t.strictSame(done, ['rules', 'arrived'], 'rules come first')
  let isOver = false
  void starting.then(() => { isOver = true })
  await settle()
  t.notOk(isOver, 'it waits for the proxy')
  bench.serve(`${pod.uid}-${statSync(network.path('a')).ino}`)
  const served = await starting
  t.match(served, { kind: 'served' })
  t.match(bench.registry.state.workloads, [{ name: 'shop/web', id: 'spiffe://lab.test/web', addresses: ['10.77.0.2'] }])
  t.equal(await checkPod('c1', bench.mesh, bench.served, signal), true)
  bench.ruled.clear()
  await t.rejects(checkPod('c1', bench.mesh, bench.served, signal), { code: 'redirect_failed' }, 'CHECK finds that rules are gone')
  t.equal(await checkPod('c9', bench.mesh, bench.served, signal), undefined)

  network.addPod('b', '10.77.0.3', { redirected: false })
  labels.set('plain', {})
  const plain = podOf('plain', {}, 'plain')
  pods.set(plain.uid, plain)
  const why = 'neither the pod nor its namespace has a label assay.io/mesh that counts'
  t.match(await bench.announce(plain, 'c2', 'b'), { kind: 'left_alone', why })
  t.notOk(bench.ruledAt('b'))
  t.strictSame(bench.mesh.enrolment.counts, { enrolled: 1, without_identity: 0, left_alone: 1 })
  const unknown = { code: 'workload_attestation_failed', message: /does not tell of pod shop\/\w+ with UID/ }
  await t.rejects(bench.announce(podOf('ghost'), 'c3', 'b'), unknown)
  await t.rejects(bench.announce({ ...pod, uid: 'another' }, 'c3', 'b'), unknown, 'an earlier one of the same name is not meant')
  for (const [netnsPath, message] of [['/etc/passwd', /no network namespace/], ['/proc/self/ns/net', /namespace of the host/]] as const) {
    const announcement = { id: 'c4', network: 'pods', netnsPath, addresses: [], pod }
    await t.rejects(announcePod(announcement, bench.mesh, bench.served, signal), { code: 'netns_unusable', message })
  }
  await bench.mesh.enrolment.remove('c1')
  t.strictSame([bench.registry.arrivals.length, bench.mesh.enrolment.find('c1')], [0, undefined])
  await bench.mesh.enrolment.remove('c1')
})

void t.test('nobody who must be asked answers', { skip }, async t => {
  const bench = await openBench(t)
  const { network, pods, labels, away } = bench
  network.addPod('a', '10.77.0.2', { redirected: false })
  labels.set('shop', { [label]: 'enabled' })
  const pod = podOf('web')
  pods.set(pod.uid, pod)
  for (const [who, code] of [['kubelet', 'workload_attestation_failed'], ['rules', 'redirect_failed']] as const) {
    away.add(who)
    await t.rejects(bench.announce(pod, 'c1', 'a'), { code }, `${who}: it does not start`)
    away.clear()
  }
  t.notOk(bench.ruledAt('a'))
  const message = /no entry gives pod shop\/web an identity; it has k8s:pod-name:web/
  await t.rejects(bench.announce(pod, 'c1', 'a', 300), { code: 'no_identity_issued', message })
  t.ok(bench.ruledAt('a'), 'and whatever its runtime does with it, it can reach nobody')
  await bench.give(pod, '/web')
  await t.rejects(bench.announce(pod, 'c1', 'a', 300), { code: 'proxy_unready', message: /no proxy is connected/ })
  const second = podOf('other', {}, 'other')
  pods.set(second.uid, second)
  away.add('api')
  network.addPod('b', '10.77.0.3', { redirected: false })
  await t.rejects(bench.announce(second, 'c2', 'b'), { code: 'kubernetes_unreachable' }, 'whether it belongs to the mesh is not known')
  const decided = podOf('decided', { [label]: 'disabled' }, 'other')
  pods.set(decided.uid, decided)
  t.match(await bench.announce(decided, 'c3', 'b'), { kind: 'left_alone' }, 'where the pod says it itself nobody is asked')
})

void t.test('without an identity', { skip }, async t => {
  const bench = await openBench(t, { pass: true })
  const { network, pods, labels } = bench
  network.addPod('a', '10.77.0.2', { redirected: false })
  labels.set('shop', { [label]: 'enabled' })
  const pod = podOf('web')
  pods.set(pod.uid, pod)
  t.match(await bench.announce(pod, 'c1', 'a', 300), { kind: 'left_alone', why: /without_identity is pass/ })
  t.strictSame([bench.warnings, bench.ruledAt('a')], [['passed_without_identity'], false], 'it may start, and that is told')
  t.strictSame(bench.mesh.enrolment.counts, { enrolled: 0, without_identity: 1, left_alone: 0 })
  t.equal(await checkPod('c1', bench.mesh, bench.served, signal), true)
  await bench.give(pod, '/web')
  await settle()
  await bench.mesh.enrolment.settled()
  t.ok(bench.ruledAt('a'), 'as soon as an entry gives it one, it is of the mesh')
  bench.identities.set(pod.selectors, identityOf((await TestTrustDomain.create('lab.test')).bundle, []))
  await bench.look()
  t.ok(bench.ruledAt('a'), 'and does not speak in the clear when it loses it again')
})

void t.test('an agent that restarts', { skip }, async t => {
  const bench = await openBench(t)
  const { network, pods, labels, done, away } = bench
  labels.set('shop', { [label]: 'enabled' })
  for (const [index, name] of ['a', 'b', 'c'].entries()) {
    network.addPod(name, `10.77.0.${2 + index}`, { redirected: false })
    const pod = podOf(name)
    pods.set(pod.uid, pod)
    await bench.give(pod, `/${name}`)
    bench.serve(`${pod.uid}-${statSync(network.path(name)).ino}`)
    await bench.announce(pod, `id-${name}`, name)
  }
  t.equal(statSync(bench.file).mode & 0o777, 0o600)
  network.removePod('c')
  away.add('kubelet')
  await bench.restart()
  t.strictSame(bench.registry.arrivals.map(({ name }) => name), ['shop/a', 'shop/b'], 'knows who is there before anybody answers')
  t.ok(done.slice(0, 2).every(what => what === 'arrived'))
  away.clear()
  pods.set('a-uid', podOf('a', { [label]: 'disabled' }))
  await bench.restart()
  await bench.look()
  t.strictSame([bench.ruledAt('a'), bench.ruledAt('b')], [false, true], 'a label that changed meanwhile counts')
  await bench.mesh.enrolment.retain('pods', new Set(['id-a']))
  t.strictSame([bench.mesh.enrolment.find('id-a')?.pod.name, bench.mesh.enrolment.find('id-b')], ['a', undefined])
  const kept = readFileSync(bench.file, 'utf8')
  writeFileSync(bench.file, kept.slice(5))
  await t.rejects(PodEnrolment.open({ file: bench.file } as Parameters<typeof PodEnrolment.open>[0]), { code: 'file_unusable' })
  writeFileSync(bench.file, kept)
})

void t.test('pods that run already', { skip }, async t => {
  const bench = await openBench(t)
  const { network, pods, labels, processes, warnings } = bench
  labels.set('shop', { [label]: 'enabled' })
  network.addPod('a', '10.77.0.2', { redirected: false })
  const [first, second] = [network.spawnIn('a', 'sleep', '1000'), network.spawnIn('a', 'sleep', '1000')]
  const inside = () => [first, second].every(({ pid }) => statSync(`/proc/${pid}/ns/net`).ino === statSync(network.path('a')).ino)
  while (!inside()) await settle()
  const pod = podOf('web')
  await bench.give(pod, '/web')
  pods.set(pod.uid, pod)
  pods.set('host-uid', { ...podOf('host'), hostNetwork: true })
  pods.set('over-uid', { ...podOf('over'), ended: true })
  processes.set(pod.uid, [first.pid ?? 0, second.pid ?? 0]).set('host-uid', [process.pid]).set('over-uid', [process.pid])
  await bench.look()
  t.match(bench.registry.arrivals, [{ name: 'shop/web', addresses: ['10.77.0.2'] }])
  t.strictSame([bench.ruledAt('a'), warnings], [true, ['found_unprotected']], 'that it ran in the clear is told')
  await bench.restart()
  t.match(bench.registry.arrivals, [{ name: 'shop/web' }])
  const uid = bench.registry.arrivals[0]?.uid
  first.kill('SIGKILL')
  processes.set(pod.uid, [second.pid ?? 0])
  await bench.look()
  t.match(bench.registry.arrivals, [{ uid }], 'as long as one of its processes is there')
  t.strictSame(warnings, ['found_unprotected'])
  second.kill('SIGKILL')
  processes.clear()
  while (bench.registry.arrivals.length > 0) await bench.look()
  t.pass('it goes with the last of them')
})

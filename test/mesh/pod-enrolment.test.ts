import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ProxyState } from '../../src/mesh/ads/proxy-state.ts'
import { announcePod, checkPod, type PodMesh } from '../../src/mesh/pods/announce-pod.ts'
import { enrolmentOf } from '../../src/mesh/pods/enrolment.ts'
import { NamespaceLabels } from '../../src/mesh/pods/namespace-labels.ts'
import type { Labels, NodePod } from '../../src/mesh/pods/node-pod.ts'
import { PodEnrolment } from '../../src/mesh/pods/pod-enrolment.ts'
import type { PodWarning } from '../../src/mesh/pods/pod-metrics.ts'
import { inboundListener, outboundListener, tunnelListener } from '../../src/mesh/resources/names.ts'
import { listenerType } from '../../src/mesh/resources/mesh-resources.ts'
import { ServedWorkloads } from '../../src/mesh/workloads/served-workloads.ts'
import { WorkloadRegistry } from '../../src/mesh/workloads/workload-registry.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import type { Selector } from '../../src/spiffe/selector.ts'
import { ManualClock, settle } from '../fakes/clock.ts'
import { FakeIdentities, identityOf, TestTrustDomain } from '../fakes/identities.ts'
import { noNamespaces, PodNetwork } from '../fakes/pods.ts'

const skip = noNamespaces()
const label = 'assay.io/mesh'
const signal = AbortSignal.timeout(240_000)
const intervalMs = 1_000
// Limits of time alone do not keep a process alive.
const alive = setInterval(() => {}, 1_000)
t.teardown(() => clearInterval(alive))

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

interface Bench {
  readonly clock: ManualClock
  readonly network: PodNetwork
  readonly pods: Map<string, NodePod>
  readonly labels: Map<string, Labels>
  readonly registry: WorkloadRegistry
  readonly identities: FakeIdentities
  /** What was done to namespaces, in order. */
  readonly done: string[]
  /** Numbers of namespaces that have rules. */
  readonly ruled: Set<number>
  readonly warnings: PodWarning[]
  readonly processes: Map<string, number[]>
  readonly mesh: PodMesh
  readonly served: ServedWorkloads
  readonly file: string
  /** Who does not answer. */
  readonly away: Set<'kubelet' | 'api' | 'rules'>
  /** The proxy takes over all that it is told. */
  serve (uid: string): void
  give (pod: NodePod, path: string): Promise<void>
  announce (pod: NodePod, id: string, at: string, within?: number): ReturnType<typeof announcePod>
  look (): Promise<void>
  restart (): Promise<void>
  ruledAt (name: string): boolean
}

async function openBench (t: Test, { pass = false, namespaced = true } = {}): Promise<Bench> {
  const scope = new AsyncDisposableStack()
  t.teardown(() => scope.disposeAsync())
  const network = scope.use(await PodNetwork.open())
  const folder = mkdtempSync(join(tmpdir(), 'enrolment-'))
  scope.defer(() => rmSync(folder, { recursive: true, force: true }))
  const domain = await TestTrustDomain.create('lab.test')
  const clock = new ManualClock()
  const identities = new FakeIdentities(domain.bundle)
  const [pods, labels, processes] = [new Map<string, NodePod>(), new Map<string, Labels>(), new Map<string, number[]>()]
  const [done, warnings, ruled, away] = [[] as string[], [] as PodWarning[], new Set<number>(), new Set<'kubelet' | 'api' | 'rules'>()]
  const inode = (path: string) => statSync(path).ino
  const rules = {
    async apply (path: string) {
      if (away.has('rules')) throw new SpiffeError('redirect_failed', 'nft refused')
      ruled.add(inode(path))
      done.push('rules')
      return { tool: 'fake' }
    },
    async remove (path: string) { if (ruled.delete(inode(path))) done.push('no rules') },
    exist: async (path: string) => ruled.has(inode(path))
  }
  const metrics = { warn: (reason: PodWarning) => { warnings.push(reason) } }
  const proxy = new ProxyState()
  const file = join(folder, 'pods.json')
  let stop = new AbortController()
  /** Between two looks it sleeps. */
  const idle = async () => { while (clock.sleeping === 0) await settle() }
  const open = async () => {
    const registry = new WorkloadRegistry(identities, silentLogger)
    const arrive = (arrival: Parameters<typeof registry.arrive>[0]) => {
      if (!registry.arrivals.some(({ uid }) => uid === arrival.uid)) done.push('arrived')
      registry.arrive(arrival)
    }
    const leave = (uid: string) => {
      done.push('left')
      registry.leave(uid)
    }
    const enrolment = await PodEnrolment.open({
      label, rules, passWithoutIdentity: pass, intervalMs, file, pins: join(folder, 'pins'), metrics, clock, log: silentLogger,
      onLooked () {},
      registry: { arrive, leave, get state () { return registry.state }, watch: signal => registry.watch(signal) },
      pods: {
        async list () {
          if (away.has('kubelet')) throw new SpiffeError('workload_attestation_failed', 'the kubelet is away')
          return new Map(pods)
        },
        processes: uids => new Map([...processes].filter(([uid]) => uids.has(uid)))
      },
      namespaces: !namespaced ? undefined : new NamespaceLabels({
        async fetch (name) {
          if (away.has('api')) throw new SpiffeError('kubernetes_unreachable', 'the API server is away')
          return labels.get(name)
        },
        clock
      })
    })
    stop = new AbortController()
    const running = enrolment.tasks().map(run => run(stop.signal).catch(() => {}))
    await idle()
    return { registry, enrolment, running }
  }
  let current = await open()
  const close = async () => {
    stop.abort(new Error('the agent stops'))
    await Promise.all(current.running)
    current.enrolment[Symbol.dispose]()
    current.registry[Symbol.dispose]()
  }
  scope.defer(close)
  const resourceOf = (name: string) => ({ name, version: 'v', value: new Uint8Array(), expiresAt: undefined })
  const view = { allNames: new Set<string>(), find: (name: string) => ({ kind: 'usable' as const, resource: resourceOf(name) }) }
  const node = { views: new Map([[listenerType, view]]) }
  const bench: Bench = {
    clock, network, pods, labels, identities, done, ruled, warnings, processes, file, away,
    get registry () { return current.registry },
    get mesh (): PodMesh {
      return { enrolment: current.enrolment, passWithoutIdentity: pass, addWithinMs: 60_000, rules, metrics, log: silentLogger }
    },
    get served () { return new ServedWorkloads({ node, proxy, registry: current.registry, now: () => clock.now() }) },
    serve (uid) {
      const workload = { uid } as Parameters<typeof tunnelListener>[0]
      for (const nameOf of [tunnelListener, inboundListener, outboundListener]) {
        proxy.note({ typeUrl: listenerType, name: nameOf(workload), version: 'v', refusal: undefined })
      }
    },
    async give (pod, path) { identities.set(pod.selectors, identityOf(domain.bundle, [await domain.issue(path)])) },
    async announce (pod, id, at, addWithinMs = 60_000) {
      return await announcePod({
        id, network: 'pods', netnsPath: network.path(at), addresses: ['10.77.0.2'],
        pod: { namespace: pod.namespace, name: pod.name, uid: pod.uid }
      }, { ...bench.mesh, addWithinMs }, bench.served, signal)
    },
    async look () {
      await idle()
      await clock.advance(intervalMs)
      await idle()
    },
    async restart () {
      await close()
      done.length = 0
      current = await open()
    },
    ruledAt: name => ruled.has(inode(network.path(name)))
  }
  return bench
}

function podOf (name: string, labels: Labels = {}, namespace = 'shop', uid = `${name}-uid`): NodePod {
  const selectors: Selector[] = [{ type: 'k8s', value: `pod-name:${name}` }, ...Object.entries(labels).map(([key, value]) =>
    ({ type: 'k8s', value: `pod-label:${key}:${value}` }))]
  return { uid, namespace, name, labels, selectors, hostNetwork: false, ended: false }
}

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

import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ProxyState } from '../../src/mesh/ads/proxy-state.ts'
import { announcePod, type PodMesh } from '../../src/mesh/pods/announce-pod.ts'
import { NamespaceLabels } from '../../src/mesh/pods/namespace-labels.ts'
import type { Labels, NodePod } from '../../src/mesh/pods/node-pod.ts'
import { PodEnrolment } from '../../src/mesh/pods/pod-enrolment.ts'
import type { PodWarning } from '../../src/mesh/pods/pod-metrics.ts'
import { inboundListener, outboundListener, tunnelListener } from '../../src/mesh/resources/names.ts'
import { listenerType } from '../../src/mesh/resources/mesh-resources.ts'
import { ServedWorkloads } from '../../src/mesh/workloads/served-workloads.ts'
import { WorkloadRegistry } from '../../src/mesh/workloads/workload-registry.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { codeOf, SpiffeError } from '../../src/spiffe/errors.ts'
import type { Selector } from '../../src/spiffe/selector.ts'
import { ManualClock, settle } from './clock.ts'
import { FakeIdentities, identityOf, TestTrustDomain } from './identities.ts'
import { noNamespaces, PodNetwork } from './pods.ts'

export const skip = noNamespaces()
export const label = 'assay.io/mesh'
export const signal = AbortSignal.timeout(240_000)
const intervalMs = 1_000

// Limits of time alone do not keep a process alive.
const alive = setInterval(() => {}, 1_000)

t.teardown(() => clearInterval(alive))

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

export async function openBench (t: Test, { pass = false, namespaced = true } = {}): Promise<Bench> {
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
      const announcement = {
        id, network: 'pods', netnsPath: network.path(at), addresses: ['10.77.0.2'],
        pod: { namespace: pod.namespace, name: pod.name, uid: pod.uid }
      }
      for (;;) {
        try {
          return await announcePod(announcement, { ...bench.mesh, addWithinMs }, bench.served, signal)
        } catch (error) {
          // A short time may be over before it is known what the pod is: its runtime tries again.
          if (signal.aborted || codeOf(error) !== 'deadline_exceeded') throw error
        }
      }
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

export function podOf (name: string, labels: Labels = {}, namespace = 'shop', uid = `${name}-uid`): NodePod {
  const selectors: Selector[] = [{ type: 'k8s', value: `pod-name:${name}` }, ...Object.entries(labels).map(([key, value]) =>
    ({ type: 'k8s', value: `pod-label:${key}:${value}` }))]
  return { uid, namespace, name, labels, selectors, hostNetwork: false, ended: false }
}

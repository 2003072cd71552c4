import { until } from '../fakes/envoy.ts'
import { PodWorkload, type Reply } from '../fakes/pod-workload.ts'
import type { RunningAgent } from '../fakes/processes.ts'
import type { Random } from '../fakes/random.ts'
import type { KubeNodes, KubePod, NodeName } from './kube-nodes.ts'

/** When a pod certainly was inside the mesh, or outside; between two of these it may be either. */
interface Stay { readonly inside: boolean, readonly from: number, until: number }

interface LivePod {
  readonly pod: KubePod
  readonly workload: PodWorkload
  readonly stays: Stay[]
  /** Packets that it had sent in the clear when it was last let in. */
  baseline: number
  readonly from: number
  until: number
}

export interface ChurnResult {
  readonly calls: number
  readonly right: number
  readonly failed: number
  readonly wrong: readonly string[]
  /** Packets that left a pod of the mesh in the clear, and whose. */
  readonly unprotected: readonly string[]
}

const trustDomain = 'spiffe://example.org'
const nameCount = 10
const liveCount = 6
const label = 'assay.io/mesh'
const patienceMs = 120_000
/** Old listeners drain for two seconds; what was under way then ends within those that a call may take. */
const drainedMs = 3_000

/**
 * Pods on two nodes that are rescheduled, take each other's addresses and are let in and out by a label, and that call each other all the
 * while. Where each may rightly be at any time is kept, and every answer and every packet is held against it.
 */
export class PodChurn {
  readonly changes = { replaced: 0, rescheduled: 0, flippedOut: 0, flippedIn: 0 }
  readonly live: LivePod[] = []
  readonly #gone: LivePod[] = []
  readonly #kube: KubeNodes
  readonly #random: Random
  readonly #running: Promise<void>[] = []
  readonly #underWay = new Set<{ readonly begin: number }>()
  readonly #result = { calls: 0, right: 0, failed: 0, wrong: [] as string[], unprotected: [] as string[] }
  #stopped = false
  #made = 0

  private constructor (kube: KubeNodes, random: Random) {
    this.#kube = kube
    this.#random = random
  }

  static async open (kube: KubeNodes, agents: readonly RunningAgent[], random: Random): Promise<PodChurn> {
    const churn = new PodChurn(kube, random)
    kube.api.namespaces.set('shop', { [label]: 'enabled' })
    const names = Array.from({ length: nameCount }, (_, i) => `p${i}`)
    // Wherever one is scheduled, it is who it is.
    for (const agent of agents) for (const name of names) await kube.nodes.register(agent, `/pod/${name}`, `k8s:pod-name:${name}`)
    for (const service of [0, 1]) {
      const members = names.filter(name => serviceOf(name) === service).map(name => `/pod/${name}`)
      await kube.nodes.service(`s${service}`, serviceAddress(service), members)
    }
    for (let i = 0; i < liveCount; i++) await churn.start(`p${i}`, i % 2 === 0 ? 'one' : 'two', `10.77.0.${10 + i}`)
    await churn.allReached()
    return churn
  }

  /** A pod of that name starts; its program runs as soon as its runtime may begin with it, as an init container's would. */
  async start (name: string, node: NodeName, address: string): Promise<void> {
    const pod = this.#kube.createPod({ node, name, address })
    await this.#kube.addUntilServed(pod)
    const from = performance.now()
    const workload = await PodWorkload.start(this.#kube.nodes.network, pod.path)
    const live: LivePod = { pod, workload, stays: [{ inside: true, from, until: Infinity }], baseline: 0, from, until: Infinity }
    this.live.push(live)
    this.#running.push(this.#callOthers(live))
  }

  /** In turns: one's label changes, another comes in one's place. */
  async change (): Promise<void> {
    const outside = this.live.filter(({ stays }) => stays.at(-1)?.inside === false)
    if (this.#made++ % 2 === 0) {
      const [first] = outside
      if (first !== undefined && this.#random.chance(0.7)) return await this.#flipIn(first)
      const one = this.#random.pick(this.live.filter(one => !outside.includes(one)))
      const last = one.stays.at(-1)
      if (last !== undefined) await this.#flipOut(one, last)
      return
    }
    const one = this.#random.pick(this.live)
    await this.stop(one)
    const absent = Array.from({ length: nameCount }, (_, i) => `p${i}`).filter(name => !this.live.some(({ pod }) => pod.name === name))
    const name = this.#random.chance(0.5) ? one.pod.name : this.#random.pick(absent)
    const node = this.#random.chance(0.5) ? 'one' : 'two'
    this.changes[name === one.pod.name && node !== one.pod.node ? 'rescheduled' : 'replaced']++
    await this.start(name, node, one.pod.address)
  }

  async stop (one: LivePod): Promise<void> {
    this.live.splice(this.live.indexOf(one), 1)
    this.#gone.push(one)
    await one.workload.kill()
    this.#count(one)
    await this.#kube.deletePod(one.pod)
    one.until = performance.now()
  }

  /** Until each pod that is inside reaches each service of which somebody is inside. */
  async allReached (): Promise<void> {
    const inside = this.live.filter(({ stays }) => stays.at(-1)?.inside === true)
    for (const service of [0, 1].filter(service => inside.some(({ pod }) => serviceOf(pod.name) === service))) {
      for (const { pod, workload } of inside) {
        await until(`${pod.path} to reach service ${service}`, async () =>
          (await workload.http(serviceAddress(service), 80)).status === 200, patienceMs)
      }
    }
  }

  async end (): Promise<ChurnResult> {
    this.#stopped = true
    await Promise.all(this.#running)
    for (const one of this.live) this.#count(one)
    return this.#result
  }

  async #flipOut (one: LivePod, stay: Stay): Promise<void> {
    this.changes.flippedOut++
    this.#count(one)
    stay.until = performance.now()
    this.#kube.label(one.pod, { [label]: 'disabled' })
    await until(`${one.pod.path} to be let out`, async () => !await this.#isServed(one), patienceMs)
    one.stays.push({ inside: false, from: performance.now() + drainedMs, until: Infinity })
  }

  async #flipIn (one: LivePod): Promise<void> {
    this.changes.flippedIn++
    const before = one.stays.at(-1)
    if (before !== undefined) before.until = performance.now()
    this.#kube.label(one.pod, {})
    await until(`${one.pod.path} to be let in`, async () => await this.#isServed(one), patienceMs)
    // What was open before stays as it was.
    const since = performance.now()
    await until('calls of before to end', () => [...this.#underWay].every(({ begin }) => begin > since), patienceMs)
    one.baseline = this.#kube.wire.read().get(one.pod.link) ?? 0
    one.stays.push({ inside: true, from: performance.now(), until: Infinity })
  }

  async #isServed ({ pod }: LivePod): Promise<boolean> {
    const { workloads } = await this.#kube.nodes.status(pod.node)
    return workloads.some(({ uid, served }) => uid.startsWith(pod.uid) && served)
  }

  /** What it has sent in the clear since it was let in, if it is inside. */
  #count ({ pod, stays, baseline }: LivePod): void {
    if (stays.at(-1)?.inside !== true) return
    const sent = (this.#kube.wire.read().get(pod.link) ?? Number.NaN) - baseline
    if (sent !== 0) this.#result.unprotected.push(`${sent} of ${pod.path}`)
  }

  async #callOthers (caller: LivePod): Promise<void> {
    while (!this.#stopped && this.live.includes(caller)) {
      const call = { begin: performance.now() }
      const service = this.#random.chance(0.5) ? this.#random.below(2) : undefined
      const address = service === undefined ? this.#random.pick(this.live).pod.address : serviceAddress(service)
      this.#underWay.add(call)
      const reply = await caller.workload.http(address, service === undefined ? 8080 : 80)
      this.#underWay.delete(call)
      this.#result.calls++
      if (reply.status !== 200) {
        this.#result.failed++
        continue
      }
      const problem = this.#problem(caller, reply, { ...call, end: performance.now(), service, address })
      if (problem === undefined) this.#result.right++
      else this.#result.wrong.push(`${caller.pod.path} → ${address} ${reply.body}: ${problem}`)
    }
  }

  /** What is not as it should be about an answer. */
  #problem (
    caller: LivePod, { body = '{}' }: Reply, call: { begin: number, end: number, service: number | undefined, address: string }
  ): string | undefined {
    const { name: path, xfcc } = JSON.parse(body) as { name: string, xfcc: string | null }
    const { begin, end, service, address } = call
    const callee = [...this.live, ...this.#gone].find(({ pod }) => pod.path === path)
    if (callee === undefined || callee.from > end || callee.until < begin) return 'nobody of that name was there'
    const own = `URI=${trustDomain}/pod/${caller.pod.name}`
    if (xfcc !== null && xfcc !== own) return `the caller is ${own}`
    const was = ({ stays }: LivePod, inside: boolean) =>
      stays.some(stay => stay.inside === inside && stay.from <= begin && stay.until >= end)
    if (service !== undefined) {
      if (serviceOf(callee.pod.name) !== service) return 'it is not of that service'
      if (xfcc === null) return 'it was not told who called'
    } else if (callee.pod.address !== address) return 'it never had that address'
    if (callee === caller) return undefined
    if (was(caller, true) && xfcc === null) return 'the caller was inside, and came as nobody'
    if (was(caller, true) && was(callee, false)) return 'the caller was inside, and the callee outside'
    if (was(caller, false) && was(callee, true)) return 'the caller was outside, and the callee inside'
    return undefined
  }
}

function serviceOf (name: string): number { return Number(name.slice(1)) % 2 }
function serviceAddress (service: number): string { return `10.99.0.${1 + service}` }

import type { Random } from '../fakes/random.ts'
import { until } from '../fakes/envoy.ts'
import { PodWorkload, type Reply } from '../fakes/pod-workload.ts'
import type { RunningAgent } from '../fakes/processes.ts'
import { drainSeconds } from '../../src/mesh/envoy/supervise-envoy.ts'
import { inboundListener, outboundListener, peersOf } from '../../src/mesh/resources/names.ts'
import type { Nodes } from './nodes.ts'

type NodeName = 'one' | 'two'

interface Pod {
  readonly name: string
  readonly node: NodeName
  /** In the network: its node's folder and its name. */
  readonly path: string
  readonly address: string
  readonly workload: PodWorkload
  readonly from: number
  until: number
}

/** What a name's entry says, from when until when (`performance.now()`). */
interface Claim { readonly id: string, readonly from: number, until: number }

export interface LoadResult {
  readonly calls: number
  readonly failed: number
  /** Each answer that nobody should have had, described. */
  readonly wrong: readonly string[]
}

const trustDomain = 'spiffe://example.org'
const nameCount = 24
const liveCount = 20
const serviceCount = 4
/** Who may call this one is listed: those of even number. */
const restricted = 3
/**
 * Envoy says that it has a listener before each of its threads has it; connections to the old one are drained from then on, and may carry
 * calls until that is over.
 */
const replacedMs = drainSeconds * 1_000 + 3_000

/**
 * Workloads on two nodes that come, go, take each other's addresses and names and change their identities, and that call each other all the
 * while. What each might rightly be at any time is kept, and every answer is held against it.
 */
export class Churn {
  changes = 0
  readonly live: Pod[] = []
  readonly #gone: Pod[] = []
  readonly #nodes: Nodes
  readonly #agents: Readonly<Record<NodeName, RunningAgent>>
  readonly #random: Random
  readonly #claims = new Map<string, Claim[]>()
  readonly #entries = new Map<string, string>()

  private constructor (nodes: Nodes, agents: Readonly<Record<NodeName, RunningAgent>>, random: Random) {
    this.#nodes = nodes
    this.#agents = agents
    this.#random = random
  }

  static async open (nodes: Nodes, agents: Readonly<Record<NodeName, RunningAgent>>, random: Random): Promise<Churn> {
    const churn = new Churn(nodes, agents, random)
    for (let i = 0; i < nameCount; i++) await churn.#claim(`p${i}`, usualPath(`p${i}`))
    for (let service = 0; service < serviceCount; service++) {
      const members = Array.from({ length: nameCount }, (_, i) => `p${i}`).filter(name => serviceOf(name) === service).map(usualPath)
      const callers = Array.from({ length: nameCount / 2 }, (_, i) => usualPath(`p${i * 2}`))
      await nodes.service(`s${service}`, serviceAddress(service), members, service === restricted ? callers : undefined)
    }
    for (let i = 0; i < liveCount; i++) await churn.#start(`p${i}`, `10.77.0.${10 + i}`)
    await churn.settled('one')
    await churn.settled('two')
    await churn.allReached()
    return churn
  }

  /** What its entry says now. */
  idOf (name: string): string { return this.#claims.get(name)?.at(-1)?.id ?? '' }

  /** All that somebody who has read every log could ask a proxy's control plane for. */
  everyName (): string[] {
    const ids = Array.from({ length: nameCount }, (_, i) => `p${i}`).flatMap(name => [usualPath(name), otherPath(name)])
    const all = [...ids.map(path => `${trustDomain}${path}`), ...Object.values(this.#agents).map(({ id }) => id), trustDomain,
      `${trustDomain}/hostile`]
    const uids = this.live.slice(0, 2).map(({ name }) => ({ uid: `${name}-1` }) as Parameters<typeof inboundListener>[0])
    return [...all, ...all.map(id => peersOf(id as Parameters<typeof peersOf>[0])), 'ALL', 'none', 'default', 'ROOTCA', 'peers/', '../x',
      ...uids.flatMap(workload => [inboundListener(workload), outboundListener(workload)])]
  }

  /** One of the things that happen to pods. */
  async change (): Promise<void> {
    this.changes++
    const pod = this.#random.pick(this.live)
    if (this.#random.chance(0.2)) return await this.#rename(pod)
    await this.#stop(pod)
    const absent = Array.from({ length: nameCount }, (_, i) => `p${i}`).filter(name => !this.live.some(one => one.name === name))
    // Another at the same address at once, or the same name at it again.
    await this.#start(this.#random.chance(0.3) ? pod.name : this.#random.pick(absent), pod.address)
  }

  /** Until a node's proxy serves exactly the pods that are there, each with the identity of its entry. */
  async settled (node: NodeName): Promise<void> {
    const expected = this.live.filter(pod => pod.node === node).map(({ name }) => `${name} ${this.idOf(name)} true`).toSorted().join()
    let found = ''
    await until(`node ${node} to serve ${expected}`, async () => {
      const { workloads } = await this.#nodes.status(node)
      found = workloads.map(({ name, spiffeId, served }) => `${name} ${spiffeId} ${served}`).toSorted().join()
      return found === expected
    }).catch((error: unknown) => { throw new Error(`it serves ${found}`, { cause: error }) })
  }

  /** Until each service that has a workload is reached by one that may call it. */
  async allReached (): Promise<void> {
    const caller = this.live.find(({ name }) => Number(name.slice(1)) % 2 === 0 && this.idOf(name).endsWith(usualPath(name)))
    for (let service = 0; service < serviceCount; service++) {
      const served = this.live.some(({ name }) => serviceOf(name) === service && this.idOf(name).endsWith(usualPath(name)))
      if (!served || caller === undefined) continue
      await until(`service s${service} to be reached`, async () =>
        (await caller.workload.http(serviceAddress(service), 80)).status === 200)
    }
  }

  /** Each pod calls whomever chance says, one call after the other, each on a connection of its own. */
  startLoad (): AsyncDisposable & { stop (): Promise<LoadResult> } {
    const stop = new AbortController()
    let [calls, failed] = [0, 0]
    const wrong: string[] = []
    const run = async (pod: Pod) => {
      while (!stop.signal.aborted && this.live.includes(pod)) {
        const found = await this.#call(pod)
        calls++
        if (found === 'failed') failed++
        else if (found !== 'right') wrong.push(found)
      }
    }
    const running: Promise<void>[] = []
    this.#onStart = pod => { running.push(run(pod)) }
    for (const pod of this.live) this.#onStart(pod)
    const end = async (): Promise<LoadResult> => {
      stop.abort()
      this.#onStart = () => {}
      await Promise.all(running)
      return { calls, failed, wrong }
    }
    return { stop: end, [Symbol.asyncDispose]: async () => { await end() } }
  }

  #onStart: (pod: Pod) => void = () => {}

  async #call (caller: Pod): Promise<string> {
    const begin = performance.now()
    const service = this.#random.chance(0.7) ? this.#random.below(serviceCount) : undefined
    const http = this.#random.chance(0.7)
    const address = service === undefined ? this.#random.pick(this.live).address : serviceAddress(service)
    const reply = http
      ? await caller.workload.http(address, service === undefined ? 8080 : 80)
      : await caller.workload.tcp(address, service === undefined ? 9000 : 90)
    const answered = answererOf(reply, http)
    if (answered === undefined) return 'failed'
    const problem = this.#problem(caller, answered, { begin, end: performance.now(), service, address })
    return problem === undefined ? 'right' : `${caller.name} → ${address} ${JSON.stringify(reply)}: ${problem}`
  }

  /** What is not as it should be about an answer. */
  #problem (caller: Pod, { path, xfcc, http }: Answer, call: { begin: number, end: number, service: number | undefined, address: string }) {
    const { begin, end, service, address } = call
    const callee = path.slice(path.indexOf('/') + 1)
    const callerIds = this.#idsOf(caller.name, begin, end)
    const calleeIds = this.#idsOf(callee, begin, end)
    const holders = [...this.live, ...this.#gone].filter(pod => pod.path === path && pod.from <= end && pod.until >= begin)
    if (holders.length === 0) return 'nobody of that name was there'
    const usual = `${trustDomain}${usualPath(callee)}`
    if (service !== undefined && (serviceOf(callee) !== service || !calleeIds.includes(usual))) {
      const last = this.#claims.get(callee)?.findLast(({ id, from }) => id === usual && from <= end)
      const since = last === undefined ? 'it never was another' : `another ended ${Math.round(begin - last.until)} ms before the call`
      return `it has ${calleeIds.join(' or ')}; ${since}`
    }
    if (service === undefined && !holders.some(pod => pod.address === address)) return 'it never had that address'
    // By its own address, not yet known to the mesh: the connection never left its namespace.
    if (service === undefined && path === caller.path && xfcc === null) return undefined
    // Only ports of services are read as HTTP.
    const told = http && calleeIds.every(id => id === usual)
    if (told && !callerIds.some(id => xfcc === `URI=${id}`)) return `the caller has ${callerIds.join(' or ')}`
    const listed = callerIds.some(id => id === `${trustDomain}${usualPath(caller.name)}`) && Number(caller.name.slice(1)) % 2 === 0
    if (calleeIds.every(id => id === usual) && serviceOf(callee) === restricted && !listed) return 'the caller is not on the list'
    return undefined
  }

  #idsOf (name: string, begin: number, end: number): string[] {
    const claims = (this.#claims.get(name) ?? []).filter(claim => claim.from <= end && claim.until >= begin)
    return [...new Set(claims.map(({ id }) => id))]
  }

  async #start (name: string, address: string): Promise<void> {
    const node = nodeOf(name)
    const path = `${node}/${name}`
    const from = performance.now()
    this.#nodes.network.addPod(path, address)
    const workload = await PodWorkload.start(this.#nodes.network, path)
    const pod: Pod = { name, node, path, address, workload, from, until: Infinity }
    this.live.push(pod)
    this.#onStart(pod)
  }

  async #stop (pod: Pod): Promise<void> {
    this.live.splice(this.live.indexOf(pod), 1)
    this.#gone.push(pod)
    await pod.workload.kill()
    this.#nodes.network.removePod(pod.path)
    pod.until = performance.now()
  }

  /** The entry of a pod that lives comes to say another ID. */
  async #rename ({ name, node }: Pod): Promise<void> {
    const before = this.#claims.get(name)?.at(-1)
    const path = before?.id.endsWith(usualPath(name)) === true ? otherPath(name) : usualPath(name)
    const entry = this.#entries.get(name)
    await this.#claim(name, path)
    if (entry !== undefined) await this.#nodes.unregister(entry)
    await this.settled(node)
    if (before !== undefined) before.until = performance.now() + replacedMs
  }

  async #claim (name: string, path: string): Promise<void> {
    const claims = this.#claims.get(name) ?? []
    this.#claims.set(name, [...claims, { id: `${trustDomain}${path}`, from: performance.now(), until: Infinity }])
    this.#entries.set(name, await this.#nodes.register(this.#agents[nodeOf(name)], path, `netns:name:${name}`))
  }
}

interface Answer { readonly path: string, readonly xfcc: string | null, readonly http: boolean }

/** Who answered; `undefined` if nobody did. */
function answererOf ({ status, body = '' }: Reply, http: boolean): Answer | undefined {
  if (!http) return body.endsWith(' hello') ? { path: body.slice(0, -' hello'.length), xfcc: null, http } : undefined
  if (status !== 200) return undefined
  const { name, xfcc } = JSON.parse(body) as { name: string, xfcc: string | null }
  return { path: name, xfcc, http }
}

function nodeOf (name: string): NodeName { return Math.floor(Number(name.slice(1)) / 3) % 2 === 0 ? 'one' : 'two' }
/** Each service has workloads on both nodes, and callers of both kinds. */
function serviceOf (name: string): number { return Math.floor(Number(name.slice(1)) / 2) % serviceCount }
function usualPath (name: string): string { return `/usual/${name}` }
function otherPath (name: string): string { return `/other/${name}` }
function serviceAddress (service: number): string { return `10.99.0.${1 + service}` }

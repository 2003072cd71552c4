import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findEnvoy, until } from '../../test/fakes/envoy.ts'
import { noNamespaces } from '../../test/fakes/pods.ts'
import type { RunningAgent } from '../../test/fakes/processes.ts'
import { Nodes } from '../../test/mesh/nodes.ts'
import { cpuMsOf } from '../measure/process-usage.ts'
import { median, percentile } from '../measure/statistics.ts'
import type { Row, Section, SuiteOptions } from '../suite.ts'
import type { LoadFigures } from './load-program.ts'
import { LoadWorkload } from './load-workload.ts'
import { sidecarPorts, startSidecar } from './sidecar.ts'

interface Sizes {
  readonly rounds: number
  readonly forMs: number
  readonly newIdentities: number
  readonly sidecars: number
  /** Workloads behind the node's Envoy at which its memory is read. */
  readonly behindOne: readonly number[]
}

/** What the issue asks for; both layouts are reckoned for so many. */
const workloads = 200
const web = '10.99.0.1'
const address = { client: '10.77.0.2', server: '10.77.0.3', sideClient: '10.77.0.4', sideServer: '10.77.0.5' } as const
const sideId = { client: 'spiffe://example.org/side-client', server: 'spiffe://example.org/side-server' } as const
/** After so long no more workloads are added: the rest is extrapolated. */
const patienceMs = 180_000
/** Envoy's worker waits on a busy machine; more connections only make the line longer. */
const connections = 16

/** One machine, the same two workloads: in the clear, through the node's one Envoy, and through an Envoy beside each. */
export async function runMesh ({ quick, progress }: SuiteOptions): Promise<readonly Section[]> {
  const missing = noNamespaces()
  if (missing !== false) throw new Error(`not measured: ${missing}`)
  const sizes: Sizes = quick
    ? { rounds: 2, forMs: 200, newIdentities: 2, sidecars: 2, behindOne: [6, 8] }
    : { rounds: 5, forMs: 1_000, newIdentities: 20, sidecars: 8, behindOne: [50, 100, workloads] }
  await using nodes = await Nodes.open()
  const agent = await nodes.startNode('one', {
    // As many worker threads as an agent gives it by itself: one per core; each sidecar has one of its own.
    mesh: { redirect: false, access_log: undefined, envoy: { path: findEnvoy() } }, logLevel: 'info'
  })
  const bed = new MeshBed(nodes, agent)
  using scope = new DisposableStack()
  const folder = mkdtempSync(join(tmpdir(), 'bench-mesh-'))
  scope.defer(() => rmSync(folder, { recursive: true, force: true }))
  progress('two workloads behind the node\'s Envoy, two with sidecars')
  const client = await bed.workload('client', address.client)
  await bed.workload('server', address.server)
  await nodes.service('web', web, ['/server'])
  const sidecars = await startSidecars(bed, folder)
  await bed.served(2)
  await until('the service to be reached', () => client.load({ host: web, port: 80, connections: 1, forMs: 5_000, requests: 1 })
    .then(() => true, () => false), 60_000)
  return [
    await traffic(bed, client, sidecars, sizes, progress),
    await firstConnections(bed, sizes, progress),
    await memory(bed, folder, sizes, progress)
  ]
}

class MeshBed {
  readonly nodes: Nodes
  readonly agent: RunningAgent

  constructor (nodes: Nodes, agent: RunningAgent) {
    this.nodes = nodes
    this.agent = agent
  }

  /** In the mesh. */
  async workload (name: string, at: string): Promise<LoadWorkload> {
    await this.nodes.register(this.agent, `/${name}`, `netns:name:${name}`)
    this.nodes.network.addPod(`one/${name}`, at)
    return await LoadWorkload.start(this.nodes.network, `one/${name}`)
  }

  /** Until the node's Envoy serves so many. */
  async served (count: number): Promise<void> {
    await until(`${count} workloads to be served`, async () =>
      (await this.status()).workloads.filter(({ served }) => served).length >= count, 240_000)
  }

  status () { return this.nodes.status('one') }

  async envoyPid (): Promise<number> { return (await this.status()).envoy?.pid ?? 0 }

  /** Bytes the node's Envoy has sent to and had from its control plane. */
  async controlBytes (): Promise<number> {
    const { envoy } = await this.status()
    const text = await adminText(envoy?.adminSocket ?? '', '/stats?filter=cluster.assay-agent.upstream_cx_[rt]x_bytes_total')
    return text.split('\n').reduce((sum, line) => sum + Number(line.split(': ')[1] ?? 0), 0)
  }
}

interface Sidecars { readonly client: LoadWorkload, readonly pids: readonly number[] }

async function startSidecars ({ nodes, agent }: MeshBed, folder: string): Promise<Sidecars> {
  const { client, server } = sideId
  for (const path of ['/side-client', '/side-server']) await nodes.register(agent, path, 'unix:uid:0')
  // Beside the folder in which namespaces are workloads of the mesh.
  for (const [pod, at] of [['beside/client', address.sideClient], ['beside/server', address.sideServer]] as const) {
    nodes.network.addPod(pod, at, { redirected: false })
  }
  const common = { folder, agentSocket: agent.socket }
  const pids = [
    await startSidecar(nodes.network, 'beside/client', { ...common, id: client, peer: server, peerAddress: address.sideServer }),
    await startSidecar(nodes.network, 'beside/server', { ...common, id: server, peer: client, peerAddress: address.sideClient })
  ]
  await LoadWorkload.start(nodes.network, 'beside/server')
  return { client: await LoadWorkload.start(nodes.network, 'beside/client'), pids }
}

interface Way {
  readonly name: string
  readonly from: LoadWorkload
  readonly host: string
  readonly port: number
  /** Of the Envoys on the way. */
  readonly pids: readonly number[]
}

interface Figures { readonly alone: LoadFigures[], readonly crowd: LoadFigures[], readonly cpuUs: number[] }

async function traffic (
  bed: MeshBed, client: LoadWorkload, sidecars: Sidecars, { rounds, forMs }: Sizes, progress: (text: string) => void
): Promise<Section> {
  const node = [await bed.envoyPid()]
  const ways: readonly Way[] = [
    { name: 'plaintext', from: sidecars.client, host: address.sideServer, port: 8080, pids: [] },
    { name: 'node Envoy, TCP', from: client, host: web, port: 90, pids: node },
    { name: 'node Envoy, HTTP', from: client, host: web, port: 80, pids: node },
    { name: 'sidecars, TCP', from: sidecars.client, host: '127.0.0.1', port: sidecarPorts.tcp, pids: sidecars.pids },
    { name: 'sidecars, HTTP', from: sidecars.client, host: '127.0.0.1', port: sidecarPorts.http, pids: sidecars.pids }
  ]
  const found = new Map<Way, Figures>(ways.map(way => [way, { alone: [], crowd: [], cpuUs: [] }]))
  for (let round = 0; round < rounds; round++) {
    progress(`traffic, round ${round + 1} of ${rounds}`)
    for (const [{ from, host, port, pids }, { alone, crowd, cpuUs }] of found) {
      const order = { host, port, forMs, requests: 1_000_000 }
      if (round === 0) await from.load({ ...order, connections, forMs: forMs / 4 })
      alone.push(await from.load({ ...order, connections: 1 }))
      const before = pids.reduce((sum, pid) => sum + cpuMsOf(pid), 0)
      const figures = await from.load({ ...order, connections })
      crowd.push(figures)
      cpuUs.push((pids.reduce((sum, pid) => sum + cpuMsOf(pid), 0) - before) * 1_000 / figures.requests)
    }
  }
  const plain = found.get(ways[0] as Way) as Figures
  const rows: Row[] = [...found].flatMap(([{ name, pids }, { alone, crowd, cpuUs }]) => {
    const added = (pick: (figures: LoadFigures) => number) => alone.map((one, i) => pick(one) - pick(plain.alone[i] as LoadFigures))
    const sidecar = [...found].find(([way]) => way.name === name.replace('node Envoy', 'sidecars'))?.[1]
    const least = sidecar === undefined ? undefined : median(sidecar.crowd.map(({ perSecond }) => perSecond))
    const aim = name.startsWith('node') && least !== undefined ? { budget: [least, least], better: 'higher' } as const : {}
    return [
      { what: `${name}: p50, 1 connection`, unit: 'ms', values: alone.map(({ p50Ms }) => p50Ms) },
      { what: `${name}: p99, 1 connection`, unit: 'ms', values: alone.map(({ p99Ms }) => p99Ms) },
      ...pids.length === 0 ? [] : [
        { what: `${name}: added to plaintext, p50`, unit: 'ms', values: added(({ p50Ms }) => p50Ms) },
        { what: `${name}: added to plaintext, p99`, unit: 'ms', values: added(({ p99Ms }) => p99Ms) }
      ],
      { what: `${name}: ${connections} connections`, unit: 'requests/s', values: crowd.map(({ perSecond }) => perSecond), ...aim },
      ...pids.length === 0 ? [] : [{ what: `${name}: CPU of the Envoys per request`, unit: 'µs', values: cpuUs }]
    ]
  })
  return {
    title: 'A request of 34 bytes, an answer of 1 KiB, connections that stay open',
    rows,
    notes: [
      'The node\'s Envoy is both ends of the connection and has a worker thread per core; the sidecars are two Envoys with one each.',
      'The sidecars are reached by a port on loopback, the node\'s Envoy by redirected connections to a service\'s address.',
      `Rounds of ${forMs} ms, the ways in turn. Both workloads, the Envoys, agent and server share the cores.`,
      'The budget is the sidecars\' median.'
    ]
  }
}

async function firstConnections (bed: MeshBed, { newIdentities }: Sizes, progress: (text: string) => void): Promise<Section> {
  const first: number[] = []
  const later: number[] = []
  const bytes: number[] = []
  for (let n = 0; n < newIdentities; n++) {
    progress(`new identity ${n + 1} of ${newIdentities}`)
    const workload = await bed.workload(`new-${n}`, `10.77.0.${10 + n}`)
    await bed.served(3 + n)
    const once = { host: web, port: 90, connections: 1, forMs: 5_000, requests: 1 }
    first.push((await workload.load(once)).firstMs)
    const before = await bed.controlBytes()
    for (let i = 0; i < 10; i++) later.push((await workload.load(once)).firstMs)
    bytes.push(await bed.controlBytes() - before)
  }
  const spread = (what: string, values: readonly number[], rest: Partial<Row> = {}): Row[] => [50, 99].map(p => ({
    what: `${what}, p${p}`, unit: 'ms', values: [percentile(values, p)], ...p === 99 ? rest : {}
  }))
  return {
    title: 'Connections of a new identity, to the first byte of the answer',
    rows: [
      ...spread('first', first, { budget: [50, 50] }), ...spread('later', later),
      { what: 'later: bytes to and from the control plane, 10 connections', unit: 'B', values: bytes, budget: [0, 0] }
    ],
    notes: [
      `${newIdentities} identities, so p99 is the worst; the first connection makes a TLS handshake and a tunnel, later ones use it.`
    ]
  }
}

async function memory (bed: MeshBed, folder: string, { sidecars, behindOne }: Sizes, progress: (text: string) => void): Promise<Section> {
  const { nodes, agent } = bed
  const pids: number[] = []
  progress(`${sidecars} sidecars`)
  for (let n = 0; n < sidecars; n++) {
    nodes.network.addPod(`beside/m${n}`, `10.77.0.${240 + n}`, { redirected: false })
    pids.push(await startSidecar(nodes.network, `beside/m${n}`, {
      folder, agentSocket: agent.socket, id: sideId.client, peer: sideId.server, peerAddress: address.sideServer
    }))
  }
  const own = pids.map(pid => memoryOf(pid).private)
  const shared = median(pids.map(pid => memoryOf(pid).resident - memoryOf(pid).private))
  const before = (await bed.status()).workloads.filter(({ served }) => served).length
  const envoy = await bed.envoyPid()
  const rows: Row[] = [{ what: `node's Envoy, ${before} workloads`, unit: 'MiB', values: [memoryOf(envoy).resident] }]
  const extrapolated = median(own) * workloads + shared
  const points = [[before, memoryOf(envoy).resident]]
  let reached = before
  const began = performance.now()
  for (const count of behindOne) {
    if (performance.now() - began > patienceMs) break
    for (; reached < count && performance.now() - began <= patienceMs; reached++) {
      if (reached % 10 === 0) progress(`${reached} of ${behindOne.at(-1)} workloads behind the node's Envoy`)
      const n = reached - before
      nodes.network.addPod(`one/m${n}`, `10.77.0.${40 + n}`, { redirected: false })
      await nodes.register(agent, `/m${n}`, `netns:name:m${n}`)
    }
    await bed.served(reached)
    points.push([reached, memoryOf(envoy).resident])
    rows.push({ what: `node's Envoy, ${reached} workloads`, unit: 'MiB', values: [memoryOf(envoy).resident] })
  }
  const budget = [extrapolated * 0.1, extrapolated * 0.1] as const
  const behindAll = { what: `node's Envoy, ${workloads} workloads${reached < workloads ? ', extrapolated' : ''}`, unit: 'MiB', budget }
  return {
    title: 'Memory',
    rows: [
      ...reached < workloads ? rows : rows.slice(0, -1), { ...behindAll, values: [atWorkloads(points)] },
      { what: 'one sidecar: its own', unit: 'MiB', values: own },
      { what: 'shared by all sidecars (program text)', unit: 'MiB', values: [shared] },
      { what: `${workloads} sidecars, extrapolated`, unit: 'MiB', values: [extrapolated] }
    ],
    notes: [
      `${sidecars} sidecars were run; ${workloads} are reckoned from the median of what each has for itself, and once what they share. ` +
      'A sidecar here knows one peer; in the node\'s Envoy each workload knows the one service. The workloads added answer for none.',
      'The budget is a tenth of that.'
    ]
  }
}

/** From the parabola through the first, the middle and the last point: what it holds need not grow in a straight line. */
function atWorkloads (points: readonly (readonly number[])[]): number {
  const chosen = [...new Set([points[0], points[points.length >> 1], points.at(-1)])] as [number, number][]
  return chosen.reduce((sum, [count, mib], i) => sum + chosen.reduce((product, [other], j) =>
    i === j ? product : product * (workloads - other) / (count - other), mib), 0)
}

/** In MiB. */
function memoryOf (pid: number): { readonly resident: number, readonly private: number } {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const of = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) / 1024
  return { resident: of('Rss'), private: of('Private_Clean') + of('Private_Dirty') }
}

function adminText (socketPath: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path, agent: false }, response => {
      let text = ''
      response.setEncoding('utf8').on('data', part => { text += part }).on('end', () => resolve(text)).on('error', reject)
    }).on('error', reject).end()
  })
}

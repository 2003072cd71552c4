import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { text as readText } from 'node:stream/consumers'
import { join } from 'node:path'
import { adsHandlers, type ResourceStatus } from '../../src/mesh/ads/ads-handlers.ts'
import type { AdsViews } from '../../src/mesh/ads/ads-stream.ts'
import { ProxyState } from '../../src/mesh/ads/proxy-state.ts'
import type { ReportedDecision } from '../../src/mesh/decisions/read-report.ts'
import { reportHandlers } from '../../src/mesh/decisions/report-handlers.ts'
import { envoyBootstrap } from '../../src/mesh/envoy/bootstrap.ts'
import { type MeshDirectory, MeshNode } from '../../src/mesh/mesh-node.ts'
import { defaultMeshSettings, type MeshEndpoint, type MeshPolicies, type MeshSettings, type Revoked } from '../../src/mesh/mesh-state.ts'
import { NetnsWatcher } from '../../src/mesh/workloads/watch-netns.ts'
import { WorkloadRegistry } from '../../src/mesh/workloads/workload-registry.ts'
import { bind, openRpcServer, type RpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { runTasks } from '../../src/runtime/tasks.ts'
import { Watchable } from '../../src/runtime/watchable.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import type { Selector } from '../../src/spiffe/selector.ts'
import type { X509Svid } from '../../src/spiffe/svid.ts'
import { accessLogService } from '../../src/wire/generated/envoy-access-log-service.ts'
import { aggregatedDiscoveryService } from '../../src/wire/generated/envoy-sds.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { findEnvoy, until } from '../fakes/envoy.ts'
import { noEpochs } from '../fakes/epochs.ts'
import { FakeIdentities, identityOf, TestTrustDomain } from '../fakes/identities.ts'
import { PodWorkload, type Reply } from '../fakes/pod-workload.ts'
import { PodNetwork } from '../fakes/pods.ts'

const mtlsPeer = join(import.meta.dirname, '../fakes/mtls-peer.mjs')

export interface RigOptions {
  readonly settings?: Partial<MeshSettings>
  /** Of Envoy; sharing is hidden by several. */
  readonly concurrency?: number
  /** Whether Envoy speaks the other protocol of xDS, in which all of a type comes at once. */
  readonly stateOfTheWorld?: boolean
  /** Told of all that Envoy decides by policies. */
  readonly onReport?: (decision: ReportedDecision) => void
  /** What Envoy is told in place of what the node says. */
  readonly told?: (views: AdsViews) => AdsViews
}

export interface IdentifyOptions {
  readonly federated?: readonly Bundle[]
  /** With a key that Envoy refuses. */
  readonly weak?: boolean
}

/** One node: its control plane in this process, its real Envoy in the node's network namespace, real workloads in pods of their own. */
export class MeshRig implements AsyncDisposable {
  readonly network: PodNetwork
  readonly domain: TestTrustDomain
  readonly identities: FakeIdentities
  readonly directory = new Watchable<MeshDirectory>({ services: [], endpoints: [] })
  readonly revoked = new Watchable<Revoked>({ digests: new Set(), ids: new Set() })
  readonly policies = new Watchable<MeshPolicies>({ kind: 'none' })
  readonly statuses: ResourceStatus[] = []
  /** What the agent would know of it. */
  readonly proxy = new ProxyState()
  readonly registry: WorkloadRegistry
  readonly captured: ReturnType<typeof capturedLog>
  readonly folder: string
  readonly #stop = new AbortController()
  readonly #scope = new AsyncDisposableStack()
  readonly #node: MeshNode
  readonly #options: RigOptions
  /** Type → name → version, as Envoy acknowledged. */
  readonly #held = new Map<string, Map<string, string>>()
  #rpc: RpcServer | undefined
  #envoy: ChildProcess | undefined
  envoyLog = ''

  private constructor (network: PodNetwork, domain: TestTrustDomain, folder: string, options: RigOptions) {
    this.network = this.#scope.use(network)
    this.domain = domain
    this.folder = folder
    this.#options = options
    this.captured = capturedLog()
    this.identities = new FakeIdentities(domain.bundle)
    this.registry = this.#scope.use(new WorkloadRegistry(this.identities, this.captured.log))
    this.#node = new MeshNode({
      settings: {
        ...defaultMeshSettings, accessLogPath: this.accessLog, authorizationSocketPath: this.authorizationSocket, trustDomain: domain.name,
        ...options.onReport === undefined ? {} : { reports: { socketPath: this.xdsSocket, decisions: 'all' } },
        ...options.settings
      },
      registry: this.registry,
      own: signal => this.identities.watch([], signal),
      directory: signal => this.directory.watch(signal),
      revoked: signal => this.revoked.watch(signal),
      policies: signal => this.policies.watch(signal),
      epochs: noEpochs,
      clock: systemClock
    })
  }

  static async open (options: RigOptions = {}): Promise<MeshRig> {
    const network = await PodNetwork.open()
    const rig = new MeshRig(network, await TestTrustDomain.create('lab.test'), await mkdtemp(join(tmpdir(), 'mesh-')), options)
    rig.#scope.defer(() => rm(rig.folder, { recursive: true, force: true }))
    const { registry, folder, captured: { log } } = rig
    const netns = rig.#scope.use(new NetnsWatcher({
      folder: network.folder, pins: join(folder, 'netns'), registry, clock: systemClock, log
    }))
    const running = runTasks(rig.#stop.signal, [...rig.#node.tasks(), signal => netns.run(signal)])
    rig.#scope.defer(async () => {
      rig.#stop.abort(new Error('done'))
      await running
    })
    await rig.startControlPlane()
    rig.#scope.defer(() => rig.stopControlPlane())
    rig.#scope.defer(() => rig.killEnvoy())
    return rig
  }

  get xdsSocket (): string { return join(this.folder, 'xds.sock') }
  get authorizationSocket (): string { return join(this.folder, 'xds-authz.sock') }
  get accessLog (): string { return join(this.folder, 'access.log') }
  get adminSocket (): string { return join(this.folder, 'admin.sock') }
  get envoyPid (): number { return this.#envoy?.pid as number }
  get envoyRuns (): boolean { return this.#envoy !== undefined && this.#envoy.exitCode === null && this.#envoy.signalCode === null }

  async startControlPlane (): Promise<void> {
    const admit = async () => {}
    const { onReport = () => {} } = this.#options
    const services = [
      bind(aggregatedDiscoveryService, adsHandlers({
        admit, states: signal => this.#told(signal), clock: systemClock, onStatus: status => this.#note(status),
        onStream: () => this.proxy.open()
      })),
      bind(accessLogService, reportHandlers({ admit, onReport, stopping: this.#stop.signal }))
    ]
    this.#rpc = openRpcServer({ services, log: this.captured.log, clock: systemClock })
    await this.#rpc.listenUnix({ path: this.xdsSocket, mode: 0o600 })
  }

  async stopControlPlane (): Promise<void> {
    await this.#rpc?.[Symbol.asyncDispose]()
    this.#rpc = undefined
  }

  async startEnvoy (): Promise<void> {
    const file = findEnvoy()
    if (file === undefined) throw new Error('there is no envoy; run `npm run setup`')
    const bootstrap = join(this.folder, 'bootstrap.json')
    const bootstrapOf = { xdsSocketPath: this.xdsSocket, adminSocketPath: this.adminSocket, nodeId: 'rig' }
    const text = JSON.stringify(envoyBootstrap(bootstrapOf))
    writeFileSync(bootstrap, this.#options.stateOfTheWorld === true ? text.replace('"DELTA_GRPC"', '"GRPC"') : text)
    const args = ['-c', bootstrap, '--use-dynamic-base-id', '--drain-time-s', '1', '--drain-strategy', 'immediate', '-l', 'info',
      '--concurrency', String(this.#options.concurrency ?? 1)]
    this.#envoy = spawn('nsenter', [`--net=${this.network.node}`, file, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#envoy.stderr?.setEncoding('utf8').on('data', text => { this.envoyLog += text })
    await until('Envoy to be ready', () => this.envoyRuns ? this.admin('/ready').then(text => text.includes('LIVE'), () => false)
      : Promise.reject(new Error(`envoy ended:\n${this.envoyLog}`)))
  }

  async killEnvoy (): Promise<void> {
    if (this.#envoy === undefined) return
    if (this.envoyRuns) {
      this.#envoy.kill('SIGKILL')
      await once(this.#envoy, 'exit')
    }
    this.#envoy = undefined
    this.#held.clear()
  }

  /** What its admin interface answers. */
  admin (path: string): Promise<string> {
    return new Promise((resolve, reject) => {
      request({ socketPath: this.adminSocket, path, agent: false, timeout: 5000 }, response => {
        let body = ''
        response.setEncoding('utf8').on('data', text => { body += text }).on('end', () => resolve(body)).on('error', reject)
      }).on('error', reject).end()
    })
  }

  async stat (name: string): Promise<number> {
    const { stats } = JSON.parse(await this.admin(`/stats?format=json&filter=${encodeURIComponent(`^${RegExp.escape(name)}$`)}`)) as
      { stats: { name: string, value: number }[] }
    return stats.find(stat => stat.name === name)?.value ?? 0
  }

  /** A pod with an identity and a program in it; returns once the program runs. */
  async pod (name: string, address: string | readonly string[], path = `/${name}`): Promise<PodWorkload> {
    await this.identify(name, path)
    this.network.addPod(name, address)
    return await PodWorkload.start(this.network, name)
  }

  /** Gives a pod's name a new SVID. @returns it */
  async identify (name: string, path: string, { federated = [], weak = false }: IdentifyOptions = {}): Promise<X509Svid> {
    const svid = await this.domain.issue(path, { weak })
    this.identities.set(selectorsOf(name), identityOf(this.domain.bundle, [svid], federated))
    return svid
  }

  /** A tunnel to a pod, opened by somebody in the node's network who holds an SVID. */
  async tunnel (svid: Pick<X509Svid, 'chain' | 'privateKey'>, host: string, authority: string): Promise<Reply> {
    const folder = await this.folderOf(svid)
    const program = join(import.meta.dirname, '../fakes/hbone-client.mjs')
    return await this.#run<Reply>(program, host, authority, folder)
  }

  /** A request over plain mTLS, by somebody in the node's network who holds an SVID. */
  async callDirectly (svid: Pick<X509Svid, 'chain' | 'privateKey'>, host: string, port: number): Promise<Reply> {
    return await this.#run<Reply>(mtlsPeer, 'call', host, String(port), await this.folderOf(svid))
  }

  /** Connections by plain mTLS, begun together by somebody in the node's network who then is silent. @returns their lives in ms */
  async holdDirectly (svid: X509Svid, host: string, port: number, count: number, ms = 20_000): Promise<number[]> {
    return await this.#run<number[]>(mtlsPeer, 'hold', host, String(port), String(count), String(ms), await this.folderOf(svid))
  }

  /** What somebody in the node's network is told who finishes the handshake and is silent, within so many milliseconds. */
  async listenDirectly (svid: Pick<X509Svid, 'chain' | 'privateKey'>, host: string, port: number, ms: number): Promise<string> {
    return await this.#run<string>(mtlsPeer, 'listen', host, String(port), String(ms), await this.folderOf(svid))
  }

  /** A program's only line. This process goes on meanwhile: what is called may ask it. */
  async #run<T> (...words: string[]): Promise<T> {
    const child = this.network.spawnIn(undefined, process.execPath, ...words)
    return JSON.parse(await readText(child.stdout!)) as T
  }

  /** Somebody in the node's network who serves HTTPS and asks for an SVID; it answers with the caller's names. */
  async serveDirectly (svid: Pick<X509Svid, 'chain' | 'privateKey'>, port: number): Promise<void> {
    const server = this.network.spawnIn(undefined, process.execPath, mtlsPeer, 'serve', String(port), await this.folderOf(svid))
    await once(server.stdout!, 'data')
  }

  /** Of its SVID, key and authority, as files. */
  async folderOf (svid: Pick<X509Svid, 'chain' | 'privateKey'>): Promise<string> {
    const folder = await mkdtemp(join(this.folder, 'peer-'))
    writeFileSync(join(folder, 'svid.pem'), svid.chain.map(der => encodePem('CERTIFICATE', der)).join(''))
    writeFileSync(join(folder, 'key.pem'), encodePem('PRIVATE KEY', svid.privateKey))
    writeFileSync(join(folder, 'ca.pem'), encodePem('CERTIFICATE', this.domain.root))
    return folder
  }

  forget (name: string): void { this.identities.set(selectorsOf(name), identityOf(this.domain.bundle, [])) }

  /** Endpoints of all workloads that are here. */
  localEndpoints (): MeshEndpoint[] {
    return this.registry.state.workloads.flatMap(({ id, addresses }) =>
      addresses.map(address => ({ id, address, transport: 'hbone' as const })))
  }

  /** Until Envoy has said of a resource that it took it over. */
  async applied (name: string): Promise<void> {
    await until(`Envoy to apply ${name}`, () => this.statuses.some(status =>
      status.name === name && status.version !== undefined && status.refusal === undefined))
  }

  /** Until Envoy holds the newest of everything that it holds, and none of what is gone. */
  async settled (): Promise<void> {
    // What was just set has a few turns to go until it is a state.
    for (let turn = 0; turn < 10; turn++) await new Promise(resolve => setImmediate(resolve))
    await until('Envoy to hold the newest state', () => {
      const views = this.#node.views
      if (views === undefined || this.proxy.streams === 0) return false
      // Of what it is not told, Envoy acknowledges nothing.
      if (this.#options.told === undefined && !this.proxy.hasSettled(views)) return false
      return [...views].every(([typeUrl, view]) => {
        const held = this.#held.get(typeUrl) ?? new Map<string, string>()
        const known = [...held].every(([name, version]) => {
          const found = view.find(name, new Date())
          // What is gone was taken away, or Envoy let it go before it was told: endpoints with their cluster, secrets with their listener.
          return found.kind === 'usable' ? found.resource.version === version : found.kind === 'absent'
        })
        return known && [...view.allNames].every(name => askedByName.test(typeUrl) || held.has(name))
      })
    })
    // It says so before it has looked at a new cluster's endpoints; who calls that until then is answered by 503.
    await until('Envoy to know its clusters', async () => await this.stat('cluster_manager.warming_clusters') === 0)
  }

  /** Until no connection of an earlier state is served any more. */
  async drained (): Promise<void> {
    await until('Envoy to have drained what was', async () => {
      const left = await Promise.all(['total_listeners_warming', 'total_listeners_draining', 'total_filter_chains_draining']
        .map(name => this.stat(`listener_manager.${name}`)))
      return left.every(count => count === 0)
    })
  }

  async * #told (signal: AbortSignal): AsyncGenerator<AdsViews, void, undefined> {
    for await (const views of this.#node.watch(signal)) yield this.#options.told?.(views) ?? views
  }

  /** The newest state. */
  get views (): AdsViews | undefined { return this.#node.views }

  /** Envoy hears the same state once more. */
  tellAgain (): void { this.#node.refresh() }

  #note (status: ResourceStatus): void {
    this.statuses.push(status)
    this.proxy.note(status)
    const { typeUrl, name, version, refusal } = status
    if (name === undefined || refusal !== undefined) return
    const held = this.#held.get(typeUrl) ?? new Map<string, string>()
    this.#held.set(typeUrl, held)
    if (version === undefined) held.delete(name)
    else held.set(name, version)
  }

  /** Until the workloads of these pods are known and Envoy has their listeners. */
  async serving (...pods: string[]): Promise<void> {
    await until(`workloads in ${pods.join(', ')}`, () => pods.every(pod => this.registry.state.workloads.some(({ name, addresses }) =>
      name === pod && addresses.length > 0)))
    for (const { uid, name } of this.registry.state.workloads) {
      if (pods.includes(name)) await this.applied(`in/${uid}`)
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }
}

/** Only what listeners and clusters name is asked for. */
const askedByName = /ClusterLoadAssignment|TypedExtensionConfig|RouteConfiguration$/

function selectorsOf (name: string): Selector[] { return [{ type: 'netns', value: `name:${name}` }] }

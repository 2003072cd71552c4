import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { nodeFlags } from '../node-flags.ts'
import type { Selector } from '../../spiffe/selector.ts'
import { AccessLog } from './access-log.ts'
import { ids, trustDomain } from './demo-ids.ts'
import { DemoOperator } from './demo-operator.ts'
import { isEnvoyReady } from './envoy-ready.ts'
import { ManagedProcess, type ManagedProcessOptions } from './managed-process.ts'
import type { DemoNetwork, DemoNode } from './network.ts'
import { placeEnvoyConfig, type Placement, type SocketAddress } from './place-envoy-config.ts'
import { PodClient } from './pods/pod-client.ts'
import type { Pod } from './pods/pod-network.ts'
import { readJsonLine } from './read-json-line.ts'
import { until } from './until.ts'
import type { Workspace } from './workspace.ts'

export interface TopologyDeps {
  readonly workspace: Workspace
  readonly network: DemoNetwork
  /** Path of the binary. */
  readonly envoy: string
  readonly signal: AbortSignal
}

/** Of the workloads; short, so that people see a rotation. */
const svidTtlSeconds = 20
const startTimeoutMs = 60_000
const attestsByPath = { plugins: { WorkloadAttestor: { unix: { plugin_data: { discover_workload_path: true } } } } }
const configs = join(import.meta.dirname, '../../../envoy-configs')
/** `.ts` in a clone, `.js` when built. */
const extension = extname(import.meta.filename)

export interface ServerOptions {
  readonly name?: string
  readonly port?: number
  /** Keys for the `server` block. */
  readonly server?: Readonly<Record<string, unknown>>
  /** Whole blocks beside it. */
  readonly blocks?: Readonly<Record<string, unknown>>
}

export interface RunningServer extends SocketAddress { readonly process: ManagedProcess, readonly adminSocket: string }

export interface RunningEnvoy { readonly process: ManagedProcess, readonly log: AccessLog }

/** The processes of the demo, started one by one and stopped in reverse order. */
export class Topology implements AsyncDisposable {
  readonly #deps: TopologyDeps
  readonly #scope = new AsyncDisposableStack()
  readonly #processes: ManagedProcess[] = []

  constructor (deps: TopologyDeps) { this.#deps = deps }

  get processes (): readonly ManagedProcess[] { return this.#processes }
  /** Never resolves: throws once any of those that have been started has ended. */
  async anyEnded (): Promise<never> { return await Promise.race(this.#processes.map(process => process.ended())) }
  agentSocket (node: DemoNode): string { return join(this.#deps.workspace.folder, node.name, 'agent.sock') }
  agentFolder (node: DemoNode): string { return join(this.#deps.workspace.folder, node.name, 'data') }

  /** @returns where agents and operators reach it */
  async startServer (
    node: DemoNode, { name = 'server', port: preferredPort = 8081, server: keys = {}, blocks = {} }: ServerOptions = {}
  ): Promise<RunningServer> {
    const folder = await this.#folder(name)
    const port = await node.port(node.address, preferredPort)
    const adminSocket = join(folder, 'admin.sock')
    const file = await writeJson(folder, 'server.json', {
      server: {
        trust_domain: trustDomain,
        bind_address: node.address,
        bind_port: port,
        socket_path: adminSocket,
        data_dir: folder,
        ratelimit: { attestation: false, signing: true },
        ...keys
      },
      ...blocks
    })
    const process = this.#start(name, node, assay('server', 'run', '-config', file))
    await process.line('that it runs', logged('server is running'), startTimeoutMs)
    return { host: node.address, port, process, adminSocket }
  }

  /** Files for the agents, and the entries: each node's Envoy may hold the identities of its node's workloads. */
  async register (server: RunningServer, clients: DemoNode, servers: DemoNode): Promise<void> {
    const selectors = await this.#envoySelectors()
    await using operator = new DemoOperator(server.adminSocket)
    await this.prepareAgents(operator, [clients, servers])
    const entry = (id: string, node: DemoNode) => ({ id, node: nodeId(node), selectors, ttlSeconds: svidTtlSeconds })
    await operator.register([entry(ids.web, clients), entry(ids.batch, clients), entry(ids.backend, servers)])
  }

  /** The files by which their agents know the server and are known as their nodes. */
  async prepareAgents (operator: DemoOperator, nodes: readonly DemoNode[]): Promise<void> {
    for (const node of nodes) {
      const folder = await this.#folder(node.name)
      await operator.writeBundle(join(folder, 'bundle.pem'))
      await operator.writeToken(nodeId(node), join(folder, 'join-token'))
    }
  }

  /** It follows one of the servers, and turns to another when that is away. @param blocks beside `agent` in its configuration */
  async startAgent (node: DemoNode, servers: readonly SocketAddress[], blocks: object = attestsByPath): Promise<void> {
    const folder = await this.#folder(node.name)
    const file = await writeJson(folder, 'agent.json', {
      agent: {
        trust_domain: trustDomain,
        server_addresses: servers.map(({ host, port }) => `${host}:${port}`),
        socket_path: this.agentSocket(node),
        data_dir: this.agentFolder(node),
        trust_bundle_path: join(folder, 'bundle.pem'),
        join_token_file: join(folder, 'join-token')
      },
      ...blocks
    })
    const agent = this.#start(`${node.name}-agent`, node, assay('agent', 'run', '-config', file))
    await agent.line('that it serves', logged('agent is serving'), startTimeoutMs)
  }

  /** Returns once it has its secrets and listens. @param config file name in `envoy-configs/` */
  async startEnvoy (node: DemoNode, config: string, places: Pick<Placement, 'listeners' | 'clusters'>): Promise<RunningEnvoy> {
    const admin = join(this.#deps.workspace.folder, node.name, 'envoy-admin.sock')
    const placement: Placement = { ...places, admin, agent: this.agentSocket(node) }
    const file = join(await this.#folder(node.name), 'envoy.json')
    await writeFile(file, placeEnvoyConfig(await readFile(join(configs, config), 'utf8'), placement))
    const alone = ['--disable-hot-restart', '--concurrency', '1', '--file-flush-interval-msec', '100']
    const log = new AccessLog()
    const process = this.#start(`${node.name}-envoy`, node, [this.#deps.envoy, '-c', file, ...alone, '-l', 'warning'], { onLine: log.add })
    const ready = async () => await isEnvoyReady(admin) ? true : undefined
    await Promise.race([until(`Envoy of ${node.name} to get its secrets`, ready, startTimeoutMs, this.#deps.signal), process.ended()])
    return { process, log }
  }

  async startBackend (node: DemoNode, { host, port }: SocketAddress): Promise<void> {
    const backend = this.#start('backend', node, workload('backend', host, `${port}`))
    await backend.line('that it listens', line => line === 'listening' || undefined, startTimeoutMs)
  }

  /** Plain HTTP to the given address of its own node's Envoy, at command. */
  startCaller (name: string, node: DemoNode, { host, port }: SocketAddress): ManagedProcess {
    return this.#start(name, node, workload('caller', host, `${port}`))
  }

  /** Plain HTTP on `port`, and calls at command. */
  async startPod (pod: Pod, port: number): Promise<PodClient> {
    const client = new PodClient(pod)
    const process = this.#start(`pod-${pod.name}`, pod, workload('pod', pod.name, `${port}`), { onLine: client.read, talks: true })
    await process.line('that it listens', line => line === 'listening' || undefined, startTimeoutMs)
    client.attach(process)
    return client
  }

  [Symbol.asyncDispose] (): Promise<void> { return this.#scope.disposeAsync() }

  #start (
    name: string, { enter }: Pick<DemoNode, 'enter'>, words: readonly string[], output: Pick<ManagedProcessOptions, 'onLine' | 'talks'> = {}
  ): ManagedProcess {
    this.#deps.signal.throwIfAborted()
    const logFile = join(this.#deps.workspace.logs, `${name}.log`)
    const process = this.#scope.use(new ManagedProcess({ name: name.replace('-', ' '), command: [...enter, ...words], logFile, ...output }))
    this.#processes.push(process)
    return process
  }

  async #folder (name: string): Promise<string> {
    const folder = join(this.#deps.workspace.folder, name)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    return folder
  }

  /** An Envoy is known by its user and by what its binary is, wherever that lies. */
  async #envoySelectors (): Promise<Selector[]> {
    const hash = createHash('sha256')
    await pipeline(createReadStream(this.#deps.envoy), hash)
    return [{ type: 'unix', value: `uid:${process.getuid?.()}` }, { type: 'unix', value: `sha256:${hash.digest('hex')}` }]
  }
}

export function nodeId (node: DemoNode): string {
  return `spiffe://${trustDomain}/${node.name}`
}

/** A command of this very program. */
export function assay (...words: string[]): string[] {
  return [process.execPath, ...nodeFlags(words), join(import.meta.dirname, `../main${extension}`), ...words]
}

function workload (name: string, ...words: string[]): string[] {
  return [process.execPath, join(import.meta.dirname, `workloads/${name}${extension}`), ...words]
}

function logged (message: string): (line: string) => true | undefined {
  return line => readJsonLine(line)?.['msg'] === message ? true : undefined
}

async function writeJson (folder: string, name: string, value: object): Promise<string> {
  const file = join(folder, name)
  await writeFile(file, JSON.stringify(value, undefined, 2), { mode: 0o600 })
  return file
}

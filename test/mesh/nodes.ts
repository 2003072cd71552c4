import { join } from 'node:path'
import { openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { meshService, type MeshStatus } from '../../src/wire/generated/agent-sync.ts'
import { serviceRegistryService } from '../../src/wire/generated/cluster.ts'
import { revocationService } from '../../src/wire/generated/revocation.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { encodeSpiffeId } from '../../src/wire/spiffe-id-codec.ts'
import { findEnvoy, until } from '../fakes/envoy.ts'
import { PodNetwork } from '../fakes/pods.ts'
import { type RunningAgent, type RunningServer, startAgent, startServer } from '../fakes/processes.ts'

export interface NodeOptions {
  /** Keys for the agent's `mesh` block. */
  readonly mesh?: Readonly<Record<string, unknown>>
  readonly logLevel?: string
  /** Where it serves metrics, inside the node's network. */
  readonly metricsPort?: number
  /** Of an earlier agent of this node. */
  readonly folder?: string
  readonly takeOver?: boolean
  /** Blocks of the `plugins` section. */
  readonly plugins?: Readonly<Record<string, unknown>>
}

/** A real server and real agents that each run the Envoy of their node, in one network; pods of each node in a folder of their own. */
export class Nodes implements AsyncDisposable {
  readonly network: PodNetwork
  readonly server: RunningServer
  readonly #scope: AsyncDisposableStack
  readonly #admin: Channel

  private constructor (network: PodNetwork, server: RunningServer, scope: AsyncDisposableStack) {
    this.network = network
    this.server = server
    this.#scope = scope
    this.#admin = scope.use(openUnixChannel(server.adminSocket))
  }

  /** @param config keys for the `server` block */
  static async open (config: Readonly<Record<string, unknown>> = {}): Promise<Nodes> {
    await using scope = new AsyncDisposableStack()
    const network = scope.use(await PodNetwork.open())
    const server = scope.use(await startServer({ netns: network.node, config }))
    return new Nodes(network, server, scope.move())
  }

  get admin (): Channel { return this.#admin }

  adminSocket (node: string): string { return join(this.network.folder, `../${node}-admin.sock`) }
  accessLog (node: string): string { return join(this.network.folder, `../${node}-access.log`) }
  xdsSocket (node: string): string { return join(this.network.folder, `../${node}-xds.sock`) }

  async startNode (name: string, options: NodeOptions = {}): Promise<RunningAgent> {
    const { mesh = {}, logLevel = 'debug', folder, takeOver = false, metricsPort, plugins } = options
    const netnsDir = join(this.network.folder, name)
    const agent = await startAgent({
      server: this.server,
      netns: this.network.node,
      config: { log_level: logLevel, take_over: takeOver, admin_socket_path: this.adminSocket(name) },
      ...folder === undefined ? {} : { folder },
      ...plugins === undefined ? {} : { plugins },
      blocks: {
        mesh: {
          socket_path: this.xdsSocket(name), netns_dir: netnsDir, run_envoy: true,
          envoy: { path: findEnvoy(), concurrency: 1 }, access_log: this.accessLog(name), ...mesh
        },
        ...metricsPort === undefined ? {} : { telemetry: { Prometheus: { host: '127.0.0.1', port: metricsPort } } }
      }
    })
    this.#scope.use(agent)
    // An agent that is killed leaves its Envoy to the next one.
    this.#scope.defer(async () => { await agent.stop() })
    return agent
  }

  async status (name: string): Promise<MeshStatus> {
    await using channel = openUnixChannel(this.xdsSocket(name))
    return await channel.client(meshService).getMeshStatus({})
  }

  /** Once its Envoy has told that it is live: it is given a second, for which a machine may stand still. */
  async live (name: string): Promise<MeshStatus> {
    let status!: MeshStatus
    await until(`Envoy of ${name} to be live`, async () => (status = await this.status(name)).envoy?.state === 'LIVE')
    return status
  }

  async register (agent: RunningAgent, path: string, selector: string): Promise<string> {
    const [type = '', value = ''] = selector.split(/:(.*)/s)
    const { results: [result] } = await this.#admin.client(entryService).batchCreateEntry({
      entries: [{
        spiffeId: encodeSpiffeId(parseSpiffeId(`spiffe://example.org${path}`)), parentId: encodeSpiffeId(parseSpiffeId(agent.id)),
        selectors: [{ type, value }]
      }]
    })
    return result?.entry?.id ?? ''
  }

  /** @returns what lifts it again */
  async revoke (path: string): Promise<() => Promise<void>> {
    const client = this.#admin.client(revocationService)
    const { revocation } = await client.revoke({ spiffeId: encodeSpiffeId(parseSpiffeId(`spiffe://example.org${path}`)), reason: 'test' })
    return async () => { await client.liftRevocation({ id: revocation?.id }) }
  }

  async unregister (id: string): Promise<void> {
    await this.#admin.client(entryService).batchDeleteEntry({ ids: [id] })
  }

  async service (
    name: string, address: string, spiffeIds: readonly string[], callers?: readonly string[], inbound = 'strict'
  ): Promise<void> {
    const { results: [result] } = await this.#admin.client(serviceRegistryService).batchCreateService({
      services: [{
        name, address, spiffeIds: spiffeIds.map(path => `spiffe://example.org${path}`), inbound,
        ports: [{ port: 80, targetPort: 8080, protocol: 'http' }, { port: 90, targetPort: 9000, protocol: 'tcp' }],
        callers: callers === undefined ? undefined : { patterns: callers.map(path => `spiffe://example.org${path}`) }
      }]
    })
    if (result?.status?.code !== 0) throw new Error(`no service: ${result?.status?.message}`)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }
}

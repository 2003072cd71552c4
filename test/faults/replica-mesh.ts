import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import { clusterService, type GetStatusResponse } from '../../src/wire/generated/cluster.ts'
import { portOf, startLoad, startPlacedEnvoy, startWorkload, type Load } from '../envoy/mesh.ts'
import { openDatabaseLink, type DatabaseLink } from '../fakes/database-link.ts'
import { until, type Envoy } from '../fakes/envoy.ts'
import { startPostgres, type Postgres } from '../fakes/postgres.ts'
import { sharedKeys, startAgent, startServer, type RunningAgent, type RunningServer, type StartServerOptions } from '../fakes/processes.ts'
import { Administrator } from '../interop/administrator.ts'
import { Workload } from './workload.ts'

const web = 'spiffe://example.org/web'
const batch = 'spiffe://example.org/batch'
const backend = 'spiffe://example.org/backend'
/** Of the identities that are renewed all the time, and of those that carry the load. */
const busyTtlSeconds = 6
const loadTtlSeconds = 60
const busyIdentities = 5

/** One place for a server: what stays when its process dies. */
interface Seat {
  readonly options: StartServerOptions
  readonly link: DatabaseLink
  server: RunningServer
}

type Parts = Pick<ReplicaMesh, 'postgres' | 'databaseUrl' | 'load' | 'agents' | 'envoys'>

/** Replicas on one PostgreSQL, each over a link of its own; two nodes with an agent and an Envoy each, and a load between them. */
export class ReplicaMesh implements AsyncDisposable {
  readonly postgres: Postgres
  /** Past all links. */
  readonly databaseUrl: string
  readonly load: Load
  readonly agents: readonly RunningAgent[]
  readonly envoys: readonly Envoy[]
  readonly #scope: AsyncDisposableStack
  readonly #seats: readonly Seat[]
  #probes = 0

  private constructor (scope: AsyncDisposableStack, parts: Parts, seats: readonly Seat[]) {
    this.#scope = scope
    this.postgres = parts.postgres
    this.databaseUrl = parts.databaseUrl
    this.load = parts.load
    this.agents = parts.agents
    this.envoys = parts.envoys
    this.#seats = seats
  }

  /** @param config for the `server` block of each replica. On return the load runs. */
  static async open (config: Readonly<Record<string, unknown>> = {}): Promise<ReplicaMesh> {
    await using scope = new AsyncDisposableStack()
    const postgres = scope.use(await startPostgres())
    const databaseUrl = await postgres.createSchema()
    const folder = await mkdtemp(join(tmpdir(), 'replica-mesh-'))
    scope.defer(() => rm(folder, { recursive: true, force: true }))
    const keyFile = join(folder, 'kek')
    await writeFile(keyFile, randomBytes(32).toString('hex'), { mode: 0o600 })

    const seats: Seat[] = []
    for (const name of ['one', 'two', 'three']) {
      const link = scope.use(await openDatabaseLink(databaseUrl))
      const options = {
        folder: join(folder, name), blocks: sharedKeys(keyFile),
        config: { datastore_url: link.url, agent_ttl: '60s', max_staleness: '3s', ...config }
      }
      const seat = { options, link, server: await startServer(options) }
      scope.defer(() => seat.server[Symbol.asyncDispose]())
      seats.push(seat)
    }
    const [first, ...others] = seats.map(({ server }) => server) as [RunningServer, ...RunningServer[]]
    const agents = []
    for (let n = 0; n < 2; n++) agents.push(scope.use(await startAgent({ server: first, replicas: others })))
    const [clients, servers] = agents as [RunningAgent, RunningAgent]
    await registerLoad(first, clients, servers)

    const workload = scope.use(await startWorkload())
    const far = scope.use(await startPlacedEnvoy(
      'server-node.yaml', 'DELTA_GRPC', servers.socket, { backend: { host: '127.0.0.1', port: workload.port } }
    ))
    const mtls = { host: '127.0.0.1', port: await portOf(far, 'mtls') }
    const near = scope.use(await startPlacedEnvoy(
      'client-node.yaml', 'DELTA_GRPC', clients.socket, { 'backend-as-web': mtls, 'backend-as-batch': mtls }
    ))
    const port = await portOf(near, 'web')
    await Promise.all([near.ready(), far.ready()])
    const load = startLoad(port)
    scope.defer(async () => { await load.stop() })
    return new ReplicaMesh(scope.move(), { postgres, databaseUrl, load, agents, envoys: [near, far] }, seats)
  }

  get servers (): readonly RunningServer[] { return this.#seats.map(({ server }) => server) }
  server (seat: number): RunningServer { return this.#seat(seat).server }
  link (seat: number): DatabaseLink { return this.#seat(seat).link }

  /** After its server has died. */
  async restart (seat: number): Promise<void> {
    const place = this.#seat(seat)
    place.server = await startServer({ ...place.options, port: place.server.port })
  }

  async status (seat: number): Promise<GetStatusResponse> {
    await using channel = openUnixChannel(this.server(seat).adminSocket)
    let status: GetStatusResponse | undefined
    // A connection to the database that went silent while its link was cut may be noticed only when it is used: an operator asks again.
    await until('the status', async () => {
      status = await channel.client(clusterService).getStatus({}, { timeoutMs: 30_000 }).catch(unlessUnavailable)
      return status !== undefined
    }, 60_000)
    return status as unknown as GetStatusResponse
  }

  /** The seat of the replica that does the chores, as the one at `asked` knows it. */
  async choresAt (asked: number): Promise<number> {
    const { leaseHolder, replicas } = await this.status(asked)
    const address = replicas.find(({ id }) => id === leaseHolder)?.address
    return this.servers.findIndex(server => server.address === address)
  }

  /** The same, once somebody does: what was killed, or had no database, may hold the lease for a while yet. */
  async holderAt (asked: number): Promise<number> {
    let seat = -1
    await until('somebody to do the chores', async () => (seat = await this.choresAt(asked)) !== -1, 60_000)
    return seat
  }

  /** Creates an entry for each node and waits until both agents serve it. @returns how long that took, in milliseconds */
  async untilServed (asked: number): Promise<number> {
    const startedMs = performance.now()
    const path = `spiffe://example.org/probe/${++this.#probes}`
    await until(`replica ${asked} to take an entry`, () => this.#registered(asked, path), 20_000)
    for (const agent of this.agents) {
      await using workload = new Workload(agent.socket)
      await workload.granted(path, 60_000)
    }
    return Math.round(performance.now() - startedMs)
  }

  async #registered (asked: number, id: string): Promise<boolean> {
    await using operator = new Administrator(this.server(asked))
    try {
      for (const agent of this.agents) await operator.register(id, agent.id, { x509SvidTtl: loadTtlSeconds })
      return true
    } catch (error) {
      if (error instanceof Error && 'status' in error && error.status === 'UNAVAILABLE') return false
      // What an attempt before made is there.
      if (/similar entry already exists/i.test(String(error))) return true
      throw error
    }
  }

  #seat (seat: number): Seat { return this.#seats[seat] as Seat }

  [Symbol.asyncDispose] (): Promise<void> { return this.#scope.disposeAsync() }
}

async function registerLoad (server: RunningServer, clients: RunningAgent, servers: RunningAgent): Promise<void> {
  await using operator = new Administrator(server)
  for (const [id, agent] of [[web, clients], [batch, clients], [backend, servers]] as const) {
    await operator.register(id, agent.id, { x509SvidTtl: loadTtlSeconds })
  }
  for (const agent of [clients, servers]) {
    for (let n = 0; n < busyIdentities; n++) {
      await operator.register(`spiffe://example.org/busy/${n}`, agent.id, { x509SvidTtl: busyTtlSeconds })
    }
    await using workload = new Workload(agent.socket)
    await workload.granted('spiffe://example.org/busy/0')
  }
}

function unlessUnavailable (error: unknown): undefined {
  if (!(error instanceof RpcError) || error.status !== 'UNAVAILABLE') throw error
}

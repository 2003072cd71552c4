import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { builtProgram, type CachedBuild } from '../../scripts/cached-build.ts'
import { eventually } from './eventually.ts'
import { freePort } from './free-port.ts'
import { type AnyServer, prepareJoin } from './processes.ts'
import { spireAgent, spireMissing, spireServer } from './spire-programs.ts'

/** Why there is no real SPIRE server to test against; `false` when there is one. */
export const withoutSpireServer = spireMissing(spireServer)
/** The same of SPIRE's agent, without which an agent of ours may join SPIRE's server. */
export const withoutSpireAgent = spireMissing(spireAgent)

const patienceMs = 60_000

/** Where SPIRE's server stores, in its own names. */
export interface SpireDatastore {
  readonly database_type: 'sqlite3' | 'postgres'
  readonly connection_string: string
}

export interface StartSpireOptions {
  /** `example.org` by default. */
  readonly trustDomain?: string
  /** Its `UpstreamAuthority` of type `spire`. */
  readonly upstream?: Readonly<Record<string, unknown>>
  /** Any free one unless given. */
  readonly port?: number
  /** The same of type `disk`, in its place. */
  readonly upstreamDisk?: object
  /** Further keys of the block `server`. */
  readonly config?: Readonly<Record<string, unknown>>
  /** SQLite in its own folder by default. */
  readonly datastore?: SpireDatastore
  /** By default those are that have a folder given; others' are in memory. */
  readonly keysOnDisk?: boolean
  /** Its `NodeAttestor`s beside `join_token`, by name. */
  readonly nodeAttestors?: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  /** Variables of its environment, such as SSL_CERT_FILE: whom `https_web` believes. */
  readonly environment?: Readonly<Record<string, string>>
  /** Of an earlier server, to start it again with its data; by default a new one that goes with it. */
  readonly folder?: string
  /** Where it shows its metrics; nowhere by default. */
  readonly prometheusPort?: number
  /** Further keys of the block `telemetry`. */
  readonly telemetry?: Readonly<Record<string, unknown>>
  /** Where it answers health checks; nowhere by default. */
  readonly healthPort?: number
}

export interface SpireServer extends AnyServer, AsyncDisposable {
  readonly pid: number
  log (): string
  /** As an operator stops it. */
  stop (): Promise<unknown>
}

/** A real spire-server in a process of its own; returns once it serves. */
export async function startSpireServer ({
  trustDomain = 'example.org', upstream, upstreamDisk, folder: givenFolder, port: givenPort, config = {}, datastore,
  keysOnDisk = givenFolder !== undefined, nodeAttestors = {}, environment = {}, prometheusPort, telemetry, healthPort
}: StartSpireOptions = {}): Promise<SpireServer> {
  const folder = givenFolder ?? await mkdtemp(join(tmpdir(), 'spire-server-'))
  const [port, adminSocket] = [givenPort ?? await freePort(), join(folder, 'api.sock')]
  // In a file of its own: within one JSON text SPIRE takes each key of a map for another plugin.
  const attestors = await Promise.all(Object.entries(nodeAttestors).map(async ([name, data]) => {
    const file = join(folder, `${name}.json`)
    await writeFile(file, JSON.stringify(data))
    return { [name]: { plugin_data_file: file } }
  }))
  const process = await SpireProcess.start(spireServer, folder, {
    server: {
      trust_domain: trustDomain, bind_address: '127.0.0.1', bind_port: port, socket_path: adminSocket, data_dir: folder,
      log_level: 'DEBUG', ...config
    },
    plugins: {
      DataStore: [{ sql: block({ ...datastore ?? { database_type: 'sqlite3', connection_string: join(folder, 'db.sqlite3') } }) }],
      KeyManager: [keysOnDisk ? { disk: block({ keys_path: join(folder, 'keys.json') }) } : { memory: block({}) }],
      NodeAttestor: [{ join_token: block({}) }, ...attestors],
      ...upstream === undefined ? {} : { UpstreamAuthority: [{ spire: block(upstream) }] },
      ...upstreamDisk === undefined ? {} : { UpstreamAuthority: [{ disk: block({ ...upstreamDisk }) }] }
    },
    ...telemetryOf(prometheusPort, telemetry), ...healthChecks(healthPort)
  }, { environment, ownsFolder: givenFolder === undefined })
  await process.ready('spire-server', async () => {
    await using channel = openUnixChannel(adminSocket)
    const { x509Authorities } = await channel.client(bundleService).getBundle({})
    return x509Authorities.length > 0
  })
  return {
    trustDomain, address: `127.0.0.1:${port}`, adminSocket, pid: process.pid, log: () => process.log,
    stop: () => process.end('SIGTERM'), [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]()
  }
}

export interface SpireAgent extends AsyncDisposable {
  /** Its own SPIFFE ID. */
  readonly id: string
  /** Of the Workload API. */
  readonly socket: string
  log (): string
}

/**
 * A real spire-agent in a process of its own, which looks for changes every second.
 * @param attestor by what it joins, and the path that gives its ID after `/spire/agent`; a join token by default
 * @param config further keys of the block `agent`
 * @param workloadAttestors by name; `unix` by default
 * @param socketPath of the Workload API; a new one unless given
 * @param prometheusPort as in `StartSpireOptions`, and so `telemetry`, `healthPort` and `environment`
 * @param until what is waited for in its log; that it serves unless given
 */
export async function startSpireAgent (
  server: AnyServer, attestor?: { readonly name: string, readonly data: Readonly<Record<string, unknown>>, readonly path: string },
  {
    config = {}, workloadAttestors = { unix: {} }, socketPath, prometheusPort, telemetry, healthPort, environment,
    until = 'Starting agent APIs'
  }: {
    readonly config?: Readonly<Record<string, unknown>>
    readonly workloadAttestors?: Readonly<Record<string, Readonly<Record<string, unknown>>>>
    readonly socketPath?: string
    readonly prometheusPort?: number
    readonly environment?: Readonly<Record<string, string>>
    readonly until?: string
    readonly telemetry?: Readonly<Record<string, unknown>>
    readonly healthPort?: number
  } = {}
): Promise<SpireAgent> {
  const folder = await mkdtemp(join(tmpdir(), 'spire-agent-'))
  const [socket, bundle] = [socketPath ?? join(folder, 'agent.sock'), join(folder, 'bundle.pem')]
  const token = await prepareJoin(server, bundle)
  const [host, port] = server.address.split(':')
  const process = await SpireProcess.start(spireAgent, folder, {
    agent: {
      trust_domain: server.trustDomain, server_address: host, server_port: Number(port), socket_path: socket, data_dir: folder,
      trust_bundle_path: bundle, ...attestor === undefined ? { join_token: token } : {}, log_level: 'DEBUG',
      experimental: { sync_interval: '1s' }, ...config
    },
    plugins: {
      NodeAttestor: [{ [attestor?.name ?? 'join_token']: block(attestor?.data ?? {}) }], KeyManager: [{ memory: block({}) }],
      WorkloadAttestor: Object.entries(workloadAttestors).map(([name, data]) => ({ [name]: block(data) }))
    },
    ...telemetryOf(prometheusPort, telemetry), ...healthChecks(healthPort)
  }, { environment: environment ?? {} })
  await process.ready('spire-agent', async () => process.log.includes(until))
  return {
    id: `spiffe://${server.trustDomain}/spire/agent${attestor?.path ?? `/join_token/${token}`}`, socket, log: () => process.log,
    [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]()
  }
}

class SpireProcess implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #folder: string | undefined
  readonly #exited: Promise<unknown>
  log = ''

  private constructor (child: ChildProcess, folder: string | undefined) {
    this.#child = child
    this.#folder = folder
    // Not before its log is whole, too.
    this.#exited = once(child, 'close')
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => { this.log += text })
  }

  /** @param ownsFolder it goes with the process */
  static async start (
    build: CachedBuild, folder: string, config: object,
    { environment = {}, ownsFolder = true }: { readonly environment?: Readonly<Record<string, string>>, readonly ownsFolder?: boolean } = {}
  ): Promise<SpireProcess> {
    const file = join(folder, 'spire.conf')
    await writeFile(file, JSON.stringify(config))
    const options = { stdio: ['ignore', 'pipe', 'pipe'] as Array<'ignore' | 'pipe'>, env: { ...process.env, ...environment } }
    return new SpireProcess(spawn(await builtProgram(build), ['run', '-config', file], options), ownsFolder ? folder : undefined)
  }

  get pid (): number { return this.#child.pid as number }

  /** Ends the process when it does not come up. */
  async ready (name: string, isReady: () => Promise<boolean>): Promise<void> {
    try {
      await eventually(`${name} to serve`, async () => {
        if (this.#child.exitCode !== null) throw new Error(`${name} ended`)
        return await isReady().catch(() => false)
      }, patienceMs)
    } catch (cause) {
      await this[Symbol.asyncDispose]()
      throw new Error(`${name} does not serve:\n${this.log}`, { cause })
    }
  }

  async end (signal: NodeJS.Signals): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill(signal)
    await this.#exited
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    await this.end('SIGKILL')
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true })
  }
}

function telemetryOf (port: number | undefined, more: object | undefined): object {
  if (port === undefined && more === undefined) return {}
  return { telemetry: { ...port === undefined ? {} : { Prometheus: { host: '127.0.0.1', port } }, ...more } }
}

function healthChecks (port: number | undefined): object {
  return port === undefined ? {} : { health_checks: { listener_enabled: true, bind_address: '127.0.0.1', bind_port: String(port) } }
}

function block (data: Readonly<Record<string, unknown>>): object { return { plugin_data: data } }

import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { placeEnvoyConfig, type Placement } from '../../src/cli/demo/place-envoy-config.ts'
import { openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { encodeBundle } from '../../src/wire/bundle-codec.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { encodeSpiffeId } from '../../src/wire/spiffe-id-codec.ts'
import { Envoy, get, until } from '../fakes/envoy.ts'
import { startAgent, startServer, type RunningAgent, type RunningServer } from '../fakes/processes.ts'

export type Api = 'GRPC' | 'DELTA_GRPC'
export const folderOfConfigs = join(import.meta.dirname, '../../envoy-configs')

export interface EntryOptions { readonly ttlSeconds: number, readonly federatesWith?: readonly string[] }

/**
 * One of `envoy-configs/` with free ports, its secrets from the given agent.
 * @param waits for its secrets however long it takes: by default Envoy goes live without them after 15 s, which a busy machine needs itself
 */
export async function startPlacedEnvoy (
  file: string, api: Api, agent: string, clusters: Placement['clusters'], waits = false
): Promise<Envoy> {
  const yaml = (await readFile(join(folderOfConfigs, file), 'utf8')).replaceAll(/\b(DELTA_)?GRPC\b/g, api)
  const anywhere = { host: '127.0.0.1', port: 0 }
  const listeners = { web: anywhere, batch: anywhere, mtls: anywhere, in: anywhere, out: anywhere }
  const patient = (key: string, value: object) => waits && key === 'sds_config' ? { ...value, initial_fetch_timeout: '0s' } : value
  const placed = placeEnvoyConfig(yaml, { admin: '', agent, listeners, clusters })
  const { admin: _, ...config } = JSON.parse(placed, patient) as { admin: object }
  return await Envoy.start(config)
}

/** A real server, a real agent, and the Envoys of `envoy-configs/` with a plain HTTP workload behind them. */
export class Mesh implements AsyncDisposable {
  readonly server: RunningServer
  readonly #scope: AsyncDisposableStack
  readonly #admin: Channel
  readonly #folder: string
  readonly #entryIds = new Map<string, string>()
  #agent: RunningAgent | undefined
  #agentId = ''

  private constructor (scope: AsyncDisposableStack, server: RunningServer, folder: string) {
    this.#scope = scope
    this.server = server
    this.#admin = scope.use(openUnixChannel(server.adminSocket))
    this.#folder = folder
  }

  /** @param config keys of the server's block @param blocks whole blocks beside it */
  static async open (config: Readonly<Record<string, unknown>> = {}, blocks: Readonly<Record<string, unknown>> = {}): Promise<Mesh> {
    await using scope = new AsyncDisposableStack()
    const server = scope.use(await startServer({ config, blocks }))
    const folder = await mkdtemp(join(tmpdir(), 'mesh-'))
    scope.defer(() => rm(folder, { recursive: true, force: true }))
    return new Mesh(scope.move(), server, folder)
  }

  get agent (): RunningAgent {
    if (this.#agent === undefined) throw new Error('the agent was not started')
    return this.#agent
  }

  get agentSocket (): string { return join(this.#folder, 'agent.sock') }

  /** The first time it joins; later it goes on with what it kept. */
  async startAgent (): Promise<void> {
    // Strict, as an operator may want it: the files in `envoy-configs/` must do (AMB-13).
    const config = { log_level: 'debug', sds: { require_security_header: true } }
    this.#agent = this.#scope.use(await startAgent({ server: this.server, folder: this.#folder, config }))
    this.#agentId ||= this.#agent.id
  }

  /** One of `envoy-configs/` with free ports, its secrets by the given API; live once it has an answer about each. */
  async startEnvoy (file: string, api: Api, clusters: Placement['clusters']): Promise<Envoy> {
    return this.#scope.use(await startPlacedEnvoy(file, api, this.agentSocket, clusters, true))
  }

  /** An identity for whatever this user runs on the agent's node: Envoy, and this process. */
  async register (id: string, { ttlSeconds, federatesWith = [] }: EntryOptions): Promise<void> {
    const entry = {
      spiffeId: encodeSpiffeId(parseSpiffeId(id)),
      parentId: encodeSpiffeId(parseSpiffeId(this.#agentId)),
      selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }],
      x509SvidTtl: ttlSeconds,
      federatesWith
    }
    const known = this.#entryIds.get(id)
    const client = this.#admin.client(entryService)
    const [result] = known === undefined
      ? (await client.batchCreateEntry({ entries: [entry] })).results
      : (await client.batchUpdateEntry({ entries: [{ id: known, ...entry }] })).results
    if (result?.status?.code !== 0 || result.entry === undefined) throw new Error(`the server refused an entry: ${result?.status?.message}`)
    this.#entryIds.set(id, result.entry.id)
  }

  async unregister (id: string): Promise<void> {
    await this.#admin.client(entryService).batchDeleteEntry({ ids: [this.#entryIds.get(id) ?? ''] })
    this.#entryIds.delete(id)
  }

  async setPartner (bundle: Bundle): Promise<void> {
    const { results } = await this.#admin.client(bundleService).batchSetFederatedBundle({ bundle: [encodeBundle(bundle)] })
    if (results[0]?.status?.code !== 0) throw new Error(`the server refused a bundle: ${results[0]?.status?.message}`)
  }

  /** What the agent has for this process, which is the same user as Envoy; `undefined` when no such identity. */
  async svidOf (id: string): Promise<{ readonly sha256: string, readonly serial: string, readonly validTo: Date } | undefined> {
    await using channel = openUnixChannel(this.agentSocket)
    const answers = channel.client(workloadService).fetchX509SVID({}, { metadata: { 'workload.spiffe.io': 'true' } })
    try {
      for await (const { svids } of answers) {
        const leaf = svids.find(svid => svid.spiffeId === id)?.x509Svid
        if (leaf === undefined) return undefined
        const { fingerprint256, serialNumber: serial, validTo } = new X509Certificate(leaf)
        return { sha256: fingerprint256.replaceAll(':', '').toLowerCase(), serial, validTo: new Date(validTo) }
      }
    } catch (error) {
      if (!['no_identity_issued', 'server_initializing'].includes((error as { code?: string }).code ?? '')) throw error
    }
    return undefined
  }

  /** How often an Envoy acknowledged a new version, or the removal, of a secret. */
  acknowledged (node: string, name: string, what: 'version' | 'removal'): number {
    return this.agent.process.lines()
      .filter(line => line['msg'] === 'envoy applied a secret' && line['node'] === node && line['name'] === name)
      .filter(line => (line['version'] === undefined) === (what === 'removal')).length
  }

  [Symbol.asyncDispose] (): Promise<void> { return this.#scope.disposeAsync() }
}

/** A workload that answers with the header by which it knows its caller. */
export async function startWorkload (): Promise<{ readonly port: number } & AsyncDisposable> {
  const server = createServer((request, response) => { response.end(request.headers['x-forwarded-client-cert'] ?? '') })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    port: (server.address() as { port: number }).port,
    async [Symbol.asyncDispose] () {
      server.closeAllConnections()
      await new Promise(resolve => { server.close(resolve) })
    }
  }
}

/** The digest of the certificate under which a plain HTTP request reached the workload; `undefined` if it did not. */
export async function certificateSeen (port: number): Promise<string | undefined> {
  const { status, body } = await get(port)
  return status === 200 ? /Hash=([\da-f]{64})/.exec(body)?.[1] : undefined
}

export interface Load {
  /** Certificates under which requests arrived. */
  readonly certificates: ReadonlySet<string>
  /** @returns what went wrong, an item for each failed request, and how many there were in all */
  stop (): Promise<{ readonly failures: readonly string[], readonly requests: number }>
}

/** Requests without end, two at a time. */
export function startLoad (port: number): Load {
  const stop = new AbortController()
  const certificates = new Set<string>()
  const failures: string[] = []
  let requests = 0
  const loop = async () => {
    while (!stop.signal.aborted) {
      requests++
      try {
        const { status, body } = await get(port)
        if (status === 200) certificates.add(/Hash=([\da-f]{64})/.exec(body)?.[1] ?? '')
        else failures.push(`${status} ${body}`)
      } catch (error) {
        failures.push(String(error))
      }
      await new Promise(resolve => setTimeout(resolve, 5))
    }
  }
  const loops = [loop(), loop()]
  return {
    certificates,
    async stop () {
      stop.abort()
      await Promise.all(loops)
      return { failures, requests }
    }
  }
}

export interface LoadedPair extends AsyncDisposable { readonly load: Load }

/** A workload behind the callee's Envoy, which the caller's calls as `web` by mTLS; and load through both. @param sockets of agents */
export async function startLoadedPair (sockets: { readonly callee: string, readonly caller: string }): Promise<LoadedPair> {
  await using scope = new AsyncDisposableStack()
  const workload = scope.use(await startWorkload())
  const server = scope.use(await startPlacedEnvoy('server-node.yaml', 'GRPC', sockets.callee, {
    backend: { host: '127.0.0.1', port: workload.port }
  }))
  const to = { host: '127.0.0.1', port: await portOf(server, 'mtls') }
  await server.ready()
  const client = scope.use(await startPlacedEnvoy('client-node.yaml', 'GRPC', sockets.caller, {
    'backend-as-web': to, 'backend-as-batch': to
  }))
  const port = await portOf(client, 'web')
  await client.ready()
  const load = startLoad(port)
  scope.defer(async () => { await load.stop() })
  const held = scope.move()
  return { load, [Symbol.asyncDispose]: () => held.disposeAsync() }
}

export async function portOf (envoy: Envoy, listener: string): Promise<number> {
  await until(`Envoy to listen as ${listener}`, async () => await envoy.listenerPort(listener) !== undefined)
  return await envoy.listenerPort(listener) as number
}

/** Serial numbers of the certificates an Envoy has for this ID. */
export async function serialsHeld (envoy: Envoy, id: string): Promise<string[]> {
  const { certificates } = JSON.parse(await envoy.admin('/certs')) as { certificates: { cert_chain: HeldCertificate[] }[] }
  return certificates.flatMap(({ cert_chain: chain }) => chain)
    .filter(({ subject_alt_names: names }) => names.some(({ uri }) => uri === id)).map(held => held.serial_number)
}

interface HeldCertificate { readonly serial_number: string, readonly subject_alt_names: readonly { readonly uri?: string }[] }

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { meshConfigOf, meshSchema } from '../../src/agent/mesh-config.ts'
import { envoyBootstrap } from '../../src/mesh/envoy/bootstrap.ts'
import { askEnvoy } from '../../src/mesh/envoy/admin-interface.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { serviceRegistryService } from '../../src/wire/generated/cluster.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import { startTestAgent, type TestAgent } from '../fakes/agent.ts'
import { capturedLog, type LogLine } from '../fakes/captured-log.ts'
import { findEnvoy, until } from '../fakes/envoy.ts'
import { type Identity, mint } from '../fakes/forge.ts'
import type { PodNetwork } from '../fakes/pods.ts'
import { PodWorkload } from '../fakes/pod-workload.ts'
import { openRelay } from '../fakes/relay.ts'
import { countedAt } from './counted.ts'
import { noFederation, startTestServer, type TestServer } from '../fakes/server.ts'
import type { SkippingClock } from '../fakes/skipping-clock.ts'
import type { WebCa } from '../federation/web-ca.ts'
import { Administrator } from '../interop/administrator.ts'
import { BundleFront, type FrontMode } from './bundle-front.ts'

const day = 86_400
const dissociate = 2
export const patienceMs = 120_000

type Relay = Awaited<ReturnType<typeof openRelay>>

export interface DomainOptions {
  readonly index: number
  readonly network: PodNetwork
  readonly clock: SkippingClock
  readonly webCa: WebCa
  readonly webCaPath: string
}

/**
 * A trust domain whose server lives by a clock that tests set forward, and whose agent, Envoy and workload live by the real one, as their
 * TLS does: what the server issues begins in their past and outlasts the test.
 */
export class FederatedDomain implements AsyncDisposable {
  readonly name: string
  readonly front: BundleFront
  readonly workload: PodWorkload
  readonly podAddress: string
  /** At which others' workloads reach it. */
  readonly serviceAddress: string
  readonly #index: number
  readonly #server: TestServer
  readonly #relay: Relay
  readonly #lines: readonly LogLine[]
  readonly #adminSocket: string
  readonly #admin: Administrator
  readonly #parent: string
  readonly #scope: AsyncDisposableStack
  #entry = ''
  #countedLines = 0
  readonly #applied = new Map<string, number>()

  private constructor (index: number, server: TestServer, agent: TestAgent, made: {
    readonly front: BundleFront, readonly relay: Relay, readonly workload: PodWorkload, readonly lines: readonly LogLine[]
    readonly adminSocket: string
  }, scope: AsyncDisposableStack) {
    this.#index = index
    this.name = server.config.trustDomain
    this.front = made.front
    this.#relay = made.relay
    this.workload = made.workload
    this.podAddress = podAddress(index)
    this.serviceAddress = `10.99.0.${index + 1}`
    this.#server = server
    this.#lines = made.lines
    this.#adminSocket = made.adminSocket
    this.#parent = `spiffe://${this.name}${agent.path}`
    this.#scope = scope
    this.#admin = scope.use(new Administrator({ adminSocket: server.config.socketPath }))
  }

  static async open ({ index, network, clock, webCa, webCaPath }: DomainOptions): Promise<FederatedDomain> {
    await using scope = new AsyncDisposableStack()
    const trustDomain = parseTrustDomain(`d${index}.test`)
    const server = scope.use(await startTestServer({
      clock,
      config: {
        trustDomain, caTtlSeconds: 900 * day, agentTtlSeconds: 400 * day, defaultX509SvidTtlSeconds: 400 * day,
        federation: {
          ...noFederation, webCaPath,
          bundleEndpoint: {
            address: '127.0.0.1', port: 0, refreshHintSeconds: 3_600, profileNamed: true, profile: { kind: 'https_spiffe' }
          }
        }
      }
    }))
    const { port } = await server.bundleEndpoint
    const front = scope.use(await BundleFront.open(port, webCa))
    const relay = scope.use(await openRelay(port))
    relay.open()
    const folder = await mkdtemp(join(tmpdir(), 'federated-'))
    scope.defer(() => rm(folder, { recursive: true, force: true }))
    const { log, lines } = capturedLog()
    const pod = `d${index}/app`
    network.addPod(pod, podAddress(index), { redirected: false })
    const xdsSocketPath = join(folder, 'xds.sock')
    const mesh = meshConfigOf(meshSchema.parse({
      socket_path: xdsSocketPath, netns_dir: join(network.folder, `d${index}`), proxy_selectors: [`unix:uid:${process.getuid?.()}`]
    }))
    const agent = scope.use(await startTestAgent(server, { log, config: { mesh } }))
    const adminSocket = await startEnvoy(network, folder, xdsSocketPath, scope)
    const workload = await PodWorkload.start(network, pod)
    return new FederatedDomain(index, server, agent, { front, relay, workload, lines, adminSocket }, scope.move())
  }

  get id (): string { return `spiffe://${this.name}/app` }
  get #client () { return this.#server.admin.client(trustDomainService) }
  get authorities () { return this.#server.admin.client(localAuthorityService) }

  /** Wants the bundles of others, is called by them and calls them. */
  async joinAll (others: readonly FederatedDomain[]): Promise<void> {
    for (const other of others) await this.relateTo(other)
    await this.federateWith(others)
    const ports = [{ port: 80, targetPort: 8080, protocol: 'http' }, { port: 90, targetPort: 9000, protocol: 'tcp' }]
    const { results } = await this.#server.admin.client(serviceRegistryService).batchCreateService({
      services: [
        { name: 'app', ports, spiffeIds: [this.id], inbound: 'strict', callers: { patterns: others.map(({ id }) => id) } },
        ...others.map(other => ({
          name: `of-${other.name}`, ports, spiffeIds: [other.id], inbound: 'strict', address: other.serviceAddress,
          staticEndpoints: [{ address: other.podAddress }]
        }))
      ]
    })
    const refused = results.find(({ status }) => status?.code !== 0)
    if (refused !== undefined) throw new Error(`no service: ${refused.status?.message}`)
  }

  /** Of every second pair one knows the other's endpoint by the web's authorities, of the others by its SVID. */
  async relateTo (other: FederatedDomain): Promise<void> {
    const byWeb = (this.#index + other.#index) % 2 === 0
    const endpoint = byWeb
      ? { bundleEndpointUrl: `https://127.0.0.1:${other.front.port}/`, httpsWeb: {} }
      : { bundleEndpointUrl: `https://127.0.0.1:${other.#relay.port}/`, httpsSpiffe: { endpointSpiffeId: `spiffe://${other.name}/spire/server` } }
    const { results: [result] } = await this.#client.batchCreateFederationRelationship({
      federationRelationships: [{
        trustDomain: other.name, ...endpoint,
        trustDomainBundle: await other.#admin.bundles.getBundle({})
      }]
    })
    if (result?.status?.code !== 0) throw new Error(`no relationship: ${result?.status?.message}`)
  }

  /** Ends it, with its bundle and what the entry says of it. */
  async partFrom ({ name }: FederatedDomain): Promise<void> {
    const trustDomains = [name]
    await this.#client.batchDeleteFederationRelationship({ trustDomains })
    const { results: [result] } = await this.#admin.bundles.batchDeleteFederatedBundle({ trustDomains, mode: dissociate })
    if (result?.status?.code !== 0) throw new Error(`the bundle stays: ${result?.status?.message}`)
  }

  async federateWith (others: readonly FederatedDomain[]): Promise<void> {
    const rest = { selectors: [{ type: 'netns', value: 'name:app' }], federatesWith: others.map(({ name }) => name) }
    if (this.#entry === '') {
      this.#entry = await this.#admin.register(this.id, this.#parent, rest)
      return
    }
    const { results: [result] } = await this.#admin.entries.batchUpdateEntry({
      entries: [{ id: this.#entry, ...rest }], inputMask: { federatesWith: true }
    })
    if (result?.status?.code !== 0) throw new Error(`the entry stays: ${result?.status?.message}`)
  }

  /** How its endpoint is met from now on; by its SVID it can only be dead or not. */
  become (mode: FrontMode): void {
    this.front.become(mode)
    if (mode === 'is dead') this.#relay.shut()
    else this.#relay.open()
  }

  /** What it knows of another one: `<sequence number>/<number of roots>`. */
  async knows ({ name }: FederatedDomain): Promise<string> {
    const { bundles } = await this.#admin.bundles.listFederatedBundles({})
    const found = bundles.find(bundle => bundle.trustDomain === name)
    return found === undefined ? 'nothing' : `${found.sequenceNumber}/${found.x509Authorities.length}`
  }

  /** An SVID of its workload's ID under the root that signs now, for somebody else. */
  mint (): Promise<Identity> { return mint(this.#admin, this.id) }

  /** How often its Envoy has said that it took over another version of a secret. */
  applied (secret: string): number {
    for (; this.#countedLines < this.#lines.length; this.#countedLines++) {
      const { msg, name, version } = this.#lines[this.#countedLines]!
      if (msg !== 'envoy applied a secret' || version === undefined) continue
      this.#applied.set(String(name), (this.#applied.get(String(name)) ?? 0) + 1)
    }
    return this.#applied.get(secret) ?? 0
  }

  async hasApplied (secret: string, since: number): Promise<void> {
    await until(`Envoy of ${this.name} to apply another version of ${secret}`, () => this.applied(secret) > since, patienceMs)
  }

  /** The bundles by which its Envoy judges callers. */
  get peers (): string { return `peers/${this.id}` }

  /** Handshakes that its Envoy has refused, whoever began them. */
  async refusedHandshakes (): Promise<number> {
    return await countedAt(this.#adminSocket, /ssl\.fail_verify/)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }
}

function podAddress (index: number): string { return `10.77.0.${index + 10}` }

/** @returns its admin socket, once it is live */
async function startEnvoy (network: PodNetwork, folder: string, xdsSocketPath: string, scope: AsyncDisposableStack): Promise<string> {
  const adminSocketPath = join(folder, 'admin.sock')
  const bootstrap = join(folder, 'bootstrap.json')
  writeFileSync(bootstrap, JSON.stringify(envoyBootstrap({ xdsSocketPath, adminSocketPath, nodeId: folder })))
  const drain = ['--drain-time-s', '1', '--drain-strategy', 'immediate']
  const words = ['-c', bootstrap, '--use-dynamic-base-id', ...drain, '-l', 'off', '--concurrency', '1']
  const envoy: ChildProcess = spawn('nsenter', [`--net=${network.node}`, findEnvoy() ?? 'envoy', ...words], { stdio: 'ignore' })
  scope.defer(async () => {
    if (envoy.exitCode !== null || envoy.signalCode !== null) return
    envoy.kill('SIGKILL')
    await once(envoy, 'exit')
  })
  await until('Envoy to be ready', () => {
    if (envoy.exitCode !== null) throw new Error('Envoy has ended')
    return askEnvoy(adminSocketPath, '/ready').then(text => text.includes('LIVE'), () => false)
  }, patienceMs)
  return adminSocketPath
}

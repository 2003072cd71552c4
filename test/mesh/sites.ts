import { join } from 'node:path'
import { openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import { serviceRegistryService } from '../../src/wire/generated/cluster.ts'
import type { ServiceInit } from '../../src/wire/generated/assay-types.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { localAuthorityService } from '../../src/wire/generated/server-local-authority.ts'
import { trustDomainService } from '../../src/wire/generated/server-trust-domain.ts'
import { encodeSpiffeId } from '../../src/wire/spiffe-id-codec.ts'
import { findEnvoy, until } from '../fakes/envoy.ts'
import type { PodNetwork } from '../fakes/pods.ts'
import { PodWorkload } from '../fakes/pod-workload.ts'
import { type RunningAgent, type RunningServer, startAgent, startServer } from '../fakes/processes.ts'
import { countedAt } from './counted.ts'

const bundlePort = 8_443
const dissociate = 2

/**
 * A trust domain at a place of its own: in the namespace of its host a real server with a bundle endpoint, a real agent, and the Envoy that
 * this runs; its pods beside it. Sites share nothing but the wire between them.
 */
export class Site implements AsyncDisposable {
  readonly trustDomain: string
  readonly server: RunningServer
  readonly agent: RunningAgent
  readonly #name: string
  readonly #address: string
  readonly #network: PodNetwork
  readonly #scope: AsyncDisposableStack
  readonly #admin: Channel
  readonly #entries = new Map<string, string>()

  private constructor (
    { network, name, address }: SiteOptions, server: RunningServer, agent: RunningAgent, scope: AsyncDisposableStack
  ) {
    this.#network = network
    this.#name = name
    this.#address = address
    this.trustDomain = server.trustDomain
    this.server = server
    this.agent = agent
    this.#scope = scope
    this.#admin = scope.use(openUnixChannel(server.adminSocket))
  }

  static async open (options: SiteOptions): Promise<Site> {
    await using scope = new AsyncDisposableStack()
    const { network, name, address } = options
    const host = `hosts/${name}`
    network.addPod(host, address, { redirected: false })
    const netns = network.path(host)
    const server = scope.use(await startServer({
      trustDomain: `${name}.test`, netns,
      config: {
        federation: {
          bundle_endpoint: { address, port: bundlePort, refresh_hint: '1s', profile: { https_spiffe: {} } }, least_refresh_interval: '1s'
        }
      }
    }))
    const agent = scope.use(await startAgent({
      server, netns,
      config: { log_level: 'debug' },
      blocks: {
        mesh: {
          socket_path: join(server.folder, 'xds.sock'), netns_dir: join(network.folder, name), run_envoy: true,
          envoy: { path: findEnvoy(), concurrency: 1 }
        }
      }
    }))
    // An agent that is killed leaves its Envoy to the next one.
    scope.defer(async () => { await agent.stop() })
    return new Site(options, server, agent, scope.move())
  }

  get admin (): Channel { return this.#admin }
  id (path: string): string { return `spiffe://${this.trustDomain}${path}` }

  /** Wants the bundle of another site, of which it is given the present one, at whose endpoint it has to show this SPIFFE ID. */
  async relateTo (other: Site): Promise<void> {
    const { results: [result] } = await this.#admin.client(trustDomainService).batchCreateFederationRelationship({
      federationRelationships: [{
        trustDomain: other.trustDomain, bundleEndpointUrl: `https://${other.#address}:${bundlePort}/`,
        trustDomainBundle: await other.#admin.client(bundleService).getBundle({}),
        httpsSpiffe: { endpointSpiffeId: other.id('/spire/server') }
      }]
    })
    if (result?.status?.code !== 0) throw new Error(`no relationship: ${result?.status?.message}`)
  }

  /** Ends it, with its bundle and what entries say of it. */
  async partFrom (other: Site): Promise<void> {
    const trustDomains = [other.trustDomain]
    await this.#admin.client(trustDomainService).batchDeleteFederationRelationship({ trustDomains })
    const { results: [result] } = await this.#admin.client(bundleService).batchDeleteFederatedBundle({ trustDomains, mode: dissociate })
    if (result?.status?.code !== 0) throw new Error(`the bundle stays: ${result?.status?.message}`)
  }

  /** Roots that it has of another site now. */
  async rootsOf ({ trustDomain }: Site): Promise<number> {
    const { bundles } = await this.#admin.client(bundleService).listFederatedBundles({})
    return bundles.find(bundle => bundle.trustDomain === trustDomain)?.x509Authorities.length ?? 0
  }

  async refresh ({ trustDomain }: Site): Promise<void> { await this.#admin.client(trustDomainService).refreshBundle({ trustDomain }) }

  get authorities () { return this.#admin.client(localAuthorityService) }

  /** A program in a pod of this site, registered as `/<name>`. */
  async pod (name: string, address: string, federatesWith: readonly Site[]): Promise<PodWorkload> {
    this.#network.addPod(`${this.#name}/${name}`, address, { redirected: false })
    await this.register(name, federatesWith)
    return await PodWorkload.start(this.#network, `${this.#name}/${name}`)
  }

  /** For the first time, or anew. */
  async register (name: string, federatesWith: readonly Site[]): Promise<void> {
    const entry = {
      spiffeId: encodeSpiffeId(parseSpiffeId(this.id(`/${name}`))), parentId: encodeSpiffeId(parseSpiffeId(this.agent.id)),
      selectors: [{ type: 'netns', value: `name:${name}` }], federatesWith: federatesWith.map(({ trustDomain }) => trustDomain)
    }
    const client = this.#admin.client(entryService)
    const id = this.#entries.get(name)
    const { results: [result] } = id === undefined
      ? await client.batchCreateEntry({ entries: [entry] })
      : await client.batchUpdateEntry({ entries: [{ id, ...entry }] })
    if (result?.status?.code !== 0 || result.entry === undefined) throw new Error(`no entry: ${result?.status?.message}`)
    this.#entries.set(name, result.entry.id)
  }

  async service (service: ServiceInit): Promise<void> {
    const ports = [{ port: 80, targetPort: 8080, protocol: 'http' }, { port: 90, targetPort: 9000, protocol: 'tcp' }]
    const { results: [result] } = await this.#admin.client(serviceRegistryService)
      .batchCreateService({ services: [{ ports, inbound: 'strict', ...service }] })
    if (result?.status?.code !== 0) throw new Error(`no service: ${result?.status?.message}`)
  }

  /** How often its Envoy has said that it took over another version of a secret. */
  applied (secret: string): number {
    return this.agent.process.lines().filter(({ msg, name, version }) =>
      msg === 'envoy applied a secret' && name === secret && version !== undefined).length
  }

  /** @param since what `applied` said before */
  async hasApplied (secret: string, since: number): Promise<void> {
    await until(`Envoy of ${this.#name} to apply another version of ${secret}`, () => this.applied(secret) > since, 60_000)
  }

  /** Of its Envoy, the sum over all names that fit. */
  async counted (names: RegExp): Promise<number> {
    return await countedAt(join(this.agent.dataDir, 'envoy/admin.sock'), names)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }
}

export interface SiteOptions {
  readonly network: PodNetwork
  /** Its trust domain is `<name>.test`. */
  readonly name: string
  /** Of its host, in 10.77.0.0/24. */
  readonly address: string
}

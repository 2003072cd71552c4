import { firstOf } from '../../src/runtime/first-of.ts'
import { openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import { RpcError } from '../../src/rpc/rpc-error.ts'
import type { Bundle, FederationRelationshipInit } from '../../src/wire/generated/types.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { parseCertificate, splitCertificates } from '../../src/x509/certificate.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { startAgent, startServer, type AnyServer } from '../fakes/processes.ts'
import { startSpireAgent, startSpireServer, withoutSpireAgent } from '../fakes/spire.ts'
import { Administrator } from './administrator.ts'

export type Profile = 'https_spiffe' | 'https_web'

/** Files of the web's kind, for endpoints on this machine. */
export interface WebFiles { readonly ca: string, readonly cert: string, readonly key: string }

interface Parts {
  readonly server: AnyServer
  readonly agent: { readonly id: string, readonly socket: string }
  readonly bundleEndpointUrl: string
}

/** What a workload of an agent is given. */
interface WorkloadView {
  /** Key identifier of the authority that signed its X509-SVID. */
  readonly authority: string
  /** How many authorities it has of each trust domain that is not its own. */
  readonly federated: Readonly<Record<string, number>>
}

const patienceMs = 60_000
const metadata = { 'workload.spiffe.io': 'true' }

/** A trust domain with a server that serves its bundle, an agent, and one identity there, that of whoever runs as this user. */
export class FederatedSide implements AsyncDisposable {
  readonly trustDomain: string
  readonly admin: Administrator
  /** Of the Workload API. */
  readonly socket: string
  readonly #url: string
  readonly #agentId: string
  readonly #workload: Channel
  readonly #scope: AsyncDisposableStack
  #entryId = ''

  private constructor ({ server, agent, bundleEndpointUrl }: Parts, scope: AsyncDisposableStack) {
    this.trustDomain = server.trustDomain
    this.socket = agent.socket
    this.#agentId = agent.id
    this.#url = bundleEndpointUrl
    this.#scope = scope
    this.admin = scope.use(new Administrator(server))
    this.#workload = scope.use(openUnixChannel(agent.socket))
  }

  /** A server and an agent of ours; partners are asked as often as they wish, up to once a second. */
  static async startOurs (trustDomain: string, profile: Profile = 'https_spiffe', web?: WebFiles): Promise<FederatedSide> {
    await using scope = new AsyncDisposableStack()
    const federation = {
      bundle_endpoint: { address: '127.0.0.1', port: 0, refresh_hint: '1s', profile: profileBlock(profile, web) },
      ...web && { web_ca_path: web.ca }, least_refresh_interval: '1s'
    }
    const server = scope.use(await startServer({ trustDomain, config: { federation } }))
    const agent = scope.use(await startAgent({ server }))
    const { address } = await server.process.logged('serving the bundle')
    return new FederatedSide({ server, agent, bundleEndpointUrl: `https://${String(address)}/` }, scope.move())
  }

  /** A real SPIRE server, with SPIRE's agent if there is one; otherwise an agent of ours joins it. */
  static async startSpire (trustDomain: string, profile: Profile, web: WebFiles): Promise<FederatedSide> {
    await using scope = new AsyncDisposableStack()
    const port = await freePort()
    const server = scope.use(await startSpireServer({
      trustDomain, environment: { SSL_CERT_FILE: web.ca },
      config: {
        experimental: { cache_reload_interval: '1s' },
        federation: { bundle_endpoint: { address: '127.0.0.1', port, refresh_hint: '1s', profile: profileBlock(profile, web) } }
      }
    }))
    const agent = scope.use(withoutSpireAgent === false ? await startSpireAgent(server) : await startAgent({ server }))
    return new FederatedSide({ server, agent, bundleEndpointUrl: `https://127.0.0.1:${port}/` }, scope.move())
  }

  get id (): string { return `spiffe://${this.trustDomain}/web` }

  /** Registers the workload, without any partner, and waits until the agent serves it. */
  async register (): Promise<void> {
    this.#entryId = await this.admin.register(this.id, this.#agentId)
    await this.#until('the identity', () => true)
  }

  async federateWith (other: FederatedSide): Promise<void> {
    const { results } = await this.admin.entries.batchUpdateEntry({
      entries: [{ id: this.#entryId, federatesWith: [other.trustDomain] }], inputMask: { federatesWith: true }
    })
    check(results, 'the entry was not changed')
    await this.seesAuthorities(other, 1)
  }

  /** @param bundle of the other, had by another way */
  async relateTo (other: FederatedSide, profile: Profile, bundle?: Bundle): Promise<void> {
    const kind: FederationRelationshipInit = profile === 'https_web'
      ? { httpsWeb: {} }
      : { httpsSpiffe: { endpointSpiffeId: `spiffe://${other.trustDomain}/spire/server` } }
    const relationship = { trustDomain: other.trustDomain, bundleEndpointUrl: other.#url, trustDomainBundle: bundle, ...kind }
    const { results } = await this.admin.relationships.batchCreateFederationRelationship({ federationRelationships: [relationship] })
    check(results, 'the relationship was not made')
  }

  /** The bundle that this side has of another. */
  async bundleOf (other: FederatedSide): Promise<Bundle | undefined> {
    const { bundles } = await this.admin.bundles.listFederatedBundles({})
    return bundles.find(({ trustDomain }) => trustDomain === other.trustDomain)
  }

  async ownBundle (): Promise<Bundle> { return await this.admin.bundles.getBundle({}) }

  async end (other: FederatedSide): Promise<void> {
    const trustDomains = [other.trustDomain]
    check((await this.admin.relationships.batchDeleteFederationRelationship({ trustDomains })).results, 'the relationship did not end')
    check((await this.admin.bundles.batchDeleteFederatedBundle({ trustDomains, mode: 2 })).results, 'the bundle was not deleted')
  }

  /** Waits until the workload has so many authorities of the other domain. */
  async seesAuthorities (other: FederatedSide, count: number): Promise<void> {
    const id = `spiffe://${other.trustDomain}`
    await this.#until(`${count} authorities of ${id}`, ({ federated }) => federated[id] === count)
  }

  async signedBy (authority: string): Promise<void> {
    await this.#until(`an X509-SVID signed by ${authority}`, view => view.authority === authority)
  }

  /** A new one. */
  async jwtSvid (audience: string): Promise<string> {
    const { svids } = await this.#workload.client(workloadService).fetchJWTSVID({ audience: [audience] }, { metadata })
    return svids[0]?.svid ?? ''
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#scope.disposeAsync() }

  async #until (what: string, fits: (view: WorkloadView) => boolean): Promise<void> {
    await eventually(`${what} at the workload of ${this.trustDomain}`, async () => {
      const view = await this.#view()
      return view !== undefined && fits(view)
    }, patienceMs)
  }

  async #view (): Promise<WorkloadView | undefined> {
    try {
      const state = await firstOf(this.#workload.client(workloadService).fetchX509SVID({}, { metadata }))
      const [svid] = state?.svids ?? []
      if (state === undefined || svid === undefined) return undefined
      const last = splitCertificates(svid.x509Svid).at(-1) as Uint8Array
      return {
        authority: Buffer.from(parseCertificate(last).authorityKeyId ?? []).toString('hex'),
        federated: Object.fromEntries(Object.entries(state.federatedBundles).map(([id, der]) => [id, splitCertificates(der).length]))
      }
    } catch (error) {
      // The agent does not know the entry yet.
      if (error instanceof RpcError && ['PERMISSION_DENIED', 'UNAVAILABLE'].includes(error.status)) return undefined
      throw error
    }
  }
}

function profileBlock (profile: Profile, web?: WebFiles): object {
  const files = { cert_file_path: web?.cert, key_file_path: web?.key, file_sync_interval: '1s' }
  return profile === 'https_spiffe' ? { https_spiffe: {} } : { https_web: { serving_cert_file: files } }
}

interface Result { readonly status: { readonly code: number, readonly message: string } | undefined }

function check (results: readonly Result[], what: string): void {
  const [result] = results
  if (result?.status?.code !== 0) throw new Error(`${what}: ${result?.status?.message}`)
}

import { openTlsChannel, openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { decodeBundle } from '../../src/wire/bundle-codec.ts'
import { agentService } from '../../src/wire/generated/server-agent.ts'
import { bundleService } from '../../src/wire/generated/server-bundle.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import type { EntryInit, SPIFFEIDInit } from '../../src/wire/generated/types.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import { newKey } from '../../test/fakes/agent-client.ts'
import { startServer, type RunningServer, type StartServerOptions } from '../../test/fakes/processes.ts'

export interface AgentIdentity {
  readonly id: SPIFFEIDInit
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[]
  readonly privateKey: Uint8Array
}

/** One that answers the API of SPIRE's servers, in a process of its own. */
export interface BedServer extends AsyncDisposable {
  readonly pid: number
  /** `host:port` */
  readonly address: string
  readonly adminSocket: string
  /** As an operator stops it. */
  stop (): Promise<unknown>
}

/** A server in a process of its own, rate limits off, with its administrator and, by TLS, its agents in this process. */
export class TestBed<S extends BedServer = RunningServer> implements AsyncDisposable {
  readonly server: S
  readonly #admin: Channel
  readonly #scope = new AsyncDisposableStack()

  /** @param server ends with the bed */
  constructor (server: S) {
    this.server = server
    this.#admin = this.#scope.use(openUnixChannel(server.adminSocket))
  }

  static async open (config: StartServerOptions['config'] = {}): Promise<TestBed> {
    return new TestBed(await startServer({ config }))
  }

  get agents () { return this.#admin.client(agentService) }
  get bundles () { return this.#admin.client(bundleService) }
  get entries () { return this.#admin.client(entryService) }

  async bundle (): Promise<Bundle> { return decodeBundle(await this.bundles.getBundle({})) }

  async joinToken (): Promise<string> { return (await this.agents.createJoinToken({ ttl: 3600 })).value }

  /** One TLS connection to the server, made when first used; ends with the bed. */
  connect (identity: AgentIdentity): Channel { return this.#scope.use(this.#open(identity)) }

  /** Joins over a connection of its own. */
  async attest (token: string, { csr, privateKey } = newRequest()): Promise<AgentIdentity> {
    await using channel = this.#open()
    const requests = (async function * () {
      yield { params: { data: { type: 'join_token', payload: Buffer.from(token) }, params: { csr } } }
    })()
    for await (const { result } of channel.client(agentService).attestAgent(requests)) {
      if (result?.svid?.id === undefined) break
      return { id: result.svid.id, chain: result.svid.certChain, privateKey }
    }
    throw new Error('the attestation brought no SVID')
  }

  /** @returns their ids */
  async createEntries (entries: readonly EntryInit[]): Promise<string[]> {
    const { results } = await this.entries.batchCreateEntry({ entries })
    return results.map(({ status, entry }) => {
      if (status?.code !== 0 || entry === undefined) throw new Error(`an entry was not created: ${status?.message}`)
      return entry.id
    })
  }

  /** Ends the server in order, so that it can write its profile. */
  async [Symbol.asyncDispose] (): Promise<void> {
    await this.#scope.disposeAsync()
    await this.server.stop()
    await this.server[Symbol.asyncDispose]()
  }

  #open (identity?: AgentIdentity): Channel {
    // This side is not what is measured, and the server of a bench cannot be anyone else's.
    return openTlsChannel({ address: this.server.address, verifyServer: () => {}, log: silentLogger, identity: () => identity })
  }
}

export function newRequest (): { csr: Uint8Array, privateKey: Uint8Array } {
  const key = newKey()
  return { csr: createCertificateRequest(key), privateKey: key.export({ format: 'der', type: 'pkcs8' }) }
}

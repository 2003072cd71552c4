import { SpiffeError, type ErrorCode } from '../spiffe/errors.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import type { Entry } from '../spiffe/entry.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Logger } from '../runtime/logger.ts'
import { openTlsChannel, type Channel } from '../rpc/channel.ts'
import { HandshakePatience } from '../rpc/handshake-patience.ts'
import { RpcError } from '../rpc/rpc-error.ts'
import { decodeBundle } from '../wire/bundle-codec.ts'
import { agentSyncService, type SyncRequestInit, type SyncResponse } from '../wire/generated/agent-sync.ts'
import { agentService } from '../wire/generated/server-agent.ts'
import { bundleService } from '../wire/generated/server-bundle.ts'
import { entryService } from '../wire/generated/server-entry.ts'
import { svidService } from '../wire/generated/server-svid.ts'
import type { SyncForm } from './agent-config.ts'
import type { Renewal } from './agent-svid.ts'
import { endingOf } from './ends-agent.ts'
import type { JwtSigner } from './jwt-cache.ts'
import { RetiringChannel } from '../rpc/retiring-channel.ts'
import { fetchAllEntries, syncEntries } from './sync-entries.ts'
import type { SvidSigner } from './svid-cache.ts'
import type { TlsDemands } from '../rpc/tls-identity.ts'
import type { VerifyServer } from '../rpc/verify-server.ts'

export interface ServerClientOptions extends TlsDemands {
  /** `host:port`, at least one: equal replicas. */
  readonly addresses: readonly string[]
  /** Asked when a call is made: an agent that joins has none before. */
  readonly agentId: () => SpiffeId
  readonly identity: () => { readonly chain: readonly Uint8Array[], readonly privateKey: Uint8Array } | undefined
  readonly verifyServer: VerifyServer
  /** How entries are asked for; by changes unless given. */
  readonly syncForm?: SyncForm
  readonly log: Logger
  /** 0 to 1: where in `addresses` to begin, so that agents spread. */
  readonly random: () => number
}

const timeoutMs = 30_000
/** While a call is open: a server that is gone without a word is noticed. SPIRE's servers bear it since their calls end before. */
const keepaliveMs = 10_000

/**
 * The agent's calls to its servers, over one connection at a time that carries the agent's SVID. A call that finds its server away is
 * made again at the next one: all of them may be repeated.
 */
export class ServerClient implements SvidSigner, JwtSigner, AsyncDisposable {
  readonly #options: ServerClientOptions
  readonly #channel: RetiringChannel
  readonly #patience: HandshakePatience
  readonly #streams = new Set<AbortController>()
  #at: number

  constructor (options: ServerClientOptions) {
    this.#options = options
    // Whoever has nowhere else to go wins nothing by giving up.
    this.#patience = new HandshakePatience(options.addresses.length === 1 ? 30_000 : 10_000)
    this.#at = Math.floor(options.random() * options.addresses.length)
    this.#channel = new RetiringChannel(() => this.#open(), error => endingOf(error) === 'agent_not_active')
  }

  /** The server that is asked now. */
  get address (): string { return this.#options.addresses[this.#at % this.#options.addresses.length] as string }

  /** After the agent's SVID was renewed: later calls use it; calls under way end on the old connection, streams begin again. */
  async reconnect (): Promise<void> {
    await this.#channel.replace()
    for (const stream of this.#streams) stream.abort(restarted)
  }

  /**
   * Follows the server's changes (`assay.agent.v1`); `onMessage` is awaited before the next one. Ends when the stream is to begin again.
   * @throws {RpcError} `UNIMPLEMENTED` from servers that do not push
   */
  async follow (
    requests: AsyncIterable<SyncRequestInit>, onMessage: (message: SyncResponse) => Promise<void>, signal: AbortSignal
  ): Promise<void> {
    const restart = new AbortController()
    this.#streams.add(restart)
    try {
      await this.#channel.use(async channel => {
        const stop = AbortSignal.any([signal, restart.signal])
        for await (const message of channel.client(agentSyncService).sync(requests, { signal: stop })) {
          await onMessage(message)
        }
      })
    } catch (error) {
      if (error !== restarted) throw error
    } finally {
      this.#streams.delete(restart)
    }
  }

  /** Turns to the next server, if there are several. */
  async moveOn (): Promise<void> {
    if (this.#options.addresses.length === 1) return
    const from = this.address
    this.#at++
    this.#options.log.info({ from, to: this.address }, 'turning to another server')
    await this.reconnect()
  }

  /** All entries this agent may serve; objects of `known` that did not change are kept. */
  async fetchEntries (known: ReadonlyMap<string, Entry>, signal: AbortSignal): Promise<Entry[]> {
    const { agentId, syncForm, log } = this.#options
    const fetch = syncForm === 'whole' ? fetchAllEntries : syncEntries
    return await this.#call(channel => fetch(channel.client(entryService), known, agentId(), log, { signal, timeoutMs }))
  }

  async fetchBundle (signal: AbortSignal): Promise<Bundle> {
    return decodeBundle(await this.#call(channel => channel.client(bundleService).getBundle({}, { signal, timeoutMs })))
  }

  /** `undefined` when the server has none. */
  async fetchFederatedBundle (trustDomain: TrustDomain, signal: AbortSignal): Promise<Bundle | undefined> {
    try {
      return decodeBundle(await this.#call(
        channel => channel.client(bundleService).getFederatedBundle({ trustDomain }, { signal, timeoutMs })
      ))
    } catch (error) {
      if (error instanceof RpcError && error.status === 'NOT_FOUND') return undefined
      throw error
    }
  }

  async renewAgent (csr: Uint8Array, signal: AbortSignal): Promise<Renewal> {
    const { svid } = await this.#call(channel => channel.client(agentService).renewAgent({ params: { csr } }, { signal, timeoutMs }))
    if (svid === undefined) throw new SpiffeError('attestation_malformed', 'the server renewed without sending an SVID')
    return { chain: svid.certChain }
  }

  async postStatus (agentVersion: string, signal: AbortSignal): Promise<void> {
    await this.#call(channel => channel.client(agentService).postStatus({ agentVersion }, { signal, timeoutMs }))
  }

  async signX509Svids (orders: readonly { readonly entryId: string, readonly csr: Uint8Array }[], signal: AbortSignal) {
    const { results } = await this.#call(
      channel => channel.client(svidService).batchNewX509SVID({ params: orders }, { signal, timeoutMs })
    )
    return orders.map((_order, index) => {
      const { status, svid } = results[index] ?? {}
      if (svid !== undefined && (status === undefined || status.code === 0)) return svid.certChain
      return new SpiffeError('entry_not_authorized', status?.message ?? 'the server left this entry out of its answer')
    })
  }

  async signJwtSvid (entryId: string, audience: readonly string[], signal: AbortSignal) {
    try {
      const { svid } = await this.#call(
        channel => channel.client(svidService).newJWTSVID({ entryId, audience }, { signal, timeoutMs })
      )
      if (svid === undefined) throw new SpiffeError('jwt_svid_malformed', 'the server answered without a token')
      return { token: svid.token, issuedAt: fromUnix(svid.issuedAt), expiresAt: fromUnix(svid.expiresAt) }
    } catch (error) {
      throw error instanceof RpcError ? new SpiffeError(jwtFailure(error), 'the server did not sign a JWT-SVID', { cause: error }) : error
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#channel[Symbol.asyncDispose]() }

  async #call<T> (call: (channel: Channel) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      const at = this.#at
      try {
        return await this.#channel.use(call)
      } catch (error) {
        if (tries >= this.#options.addresses.length || !isAway(error)) throw error
        // Of several calls that found it away, one turns to the next server.
        if (at === this.#at) await this.moveOn()
      }
    }
  }

  #open (): Channel {
    const { identity, verifyServer, requirePqKem, log } = this.#options
    return openTlsChannel({ address: this.address, identity, verifyServer, requirePqKem, patience: this.#patience, log, keepaliveMs })
  }
}

const restarted = new Error('the stream begins again on another connection')

/** Whether another server may answer what this one could not. */
export function isAway (error: unknown): boolean {
  return error instanceof RpcError && (error.status === 'UNAVAILABLE' || error.status === 'DEADLINE_EXCEEDED')
}

/** What a workload learns when the server would not sign: whether to ask again. */
function jwtFailure ({ status, code }: RpcError): ErrorCode {
  if (code === 'jwt_disabled' || status === 'UNIMPLEMENTED') return 'jwt_disabled'
  if (status === 'NOT_FOUND') return 'entry_not_authorized'
  if (status === 'INVALID_ARGUMENT') return 'argument_invalid'
  return 'server_unreachable'
}

function fromUnix (seconds: bigint): Date { return new Date(Number(seconds) * 1000) }

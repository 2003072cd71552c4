import { SpiffeError, type ErrorCode } from '../spiffe/errors.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import type { Entry } from '../spiffe/entry.ts'
import type { SpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Logger } from '../runtime/logger.ts'
import { openTlsChannel } from '../rpc/channel.ts'
import { RpcError } from '../rpc/rpc-error.ts'
import { decodeBundle } from '../wire/bundle-codec.ts'
import { agentService } from '../wire/generated/server-agent.ts'
import { bundleService } from '../wire/generated/server-bundle.ts'
import { entryService } from '../wire/generated/server-entry.ts'
import { svidService } from '../wire/generated/server-svid.ts'
import { endingOf } from './ends-agent.ts'
import type { JwtSigner } from './jwt-cache.ts'
import { RetiringChannel } from './retiring-channel.ts'
import { syncEntries } from './sync-entries.ts'
import type { SvidSigner } from './svid-cache.ts'
import type { VerifyServer } from './verify-server.ts'

export interface ServerClientOptions {
  /** `host:port`. */
  readonly address: string
  readonly agentId: SpiffeId
  readonly identity: () => { readonly chain: readonly Uint8Array[], readonly privateKey: Uint8Array }
  readonly verifyServer: VerifyServer
  readonly log: Logger
}

const timeoutMs = 30_000

/** The agent's calls to its server, over one connection that carries the agent's SVID. Speaks SPIRE's API only. */
export class ServerClient implements SvidSigner, JwtSigner, AsyncDisposable {
  readonly #options: ServerClientOptions
  readonly #channel: RetiringChannel

  constructor (options: ServerClientOptions) {
    this.#options = options
    const { address, identity, verifyServer, log } = options
    this.#channel = new RetiringChannel(
      () => openTlsChannel({ address, identity, verifyServer, log }), error => endingOf(error) === 'agent_not_active'
    )
  }

  /** After the agent's SVID was renewed: later calls use it; calls under way end on the old connection. */
  async reconnect (): Promise<void> { await this.#channel.replace() }

  /** All entries this agent may serve; objects of `known` that did not change are kept. */
  async fetchEntries (known: ReadonlyMap<string, Entry>, signal: AbortSignal): Promise<Entry[]> {
    const { agentId, log } = this.#options
    return await this.#channel.use(channel => syncEntries(channel.client(entryService), known, agentId, log, { signal, timeoutMs }))
  }

  async fetchBundle (signal: AbortSignal): Promise<Bundle> {
    return decodeBundle(await this.#channel.use(channel => channel.client(bundleService).getBundle({}, { signal, timeoutMs })))
  }

  /** `undefined` when the server has none. */
  async fetchFederatedBundle (trustDomain: TrustDomain, signal: AbortSignal): Promise<Bundle | undefined> {
    try {
      return decodeBundle(await this.#channel.use(
        channel => channel.client(bundleService).getFederatedBundle({ trustDomain }, { signal, timeoutMs })
      ))
    } catch (error) {
      if (error instanceof RpcError && error.status === 'NOT_FOUND') return undefined
      throw error
    }
  }

  async renewAgent (csr: Uint8Array, signal: AbortSignal): Promise<readonly Uint8Array[]> {
    const { svid } = await this.#channel.use(channel => channel.client(agentService).renewAgent({ params: { csr } }, { signal, timeoutMs }))
    if (svid === undefined) throw new SpiffeError('attestation_malformed', 'the server renewed without sending an SVID')
    return svid.certChain
  }

  async postStatus (agentVersion: string, signal: AbortSignal): Promise<void> {
    await this.#channel.use(channel => channel.client(agentService).postStatus({ agentVersion }, { signal, timeoutMs }))
  }

  async signX509Svids (orders: readonly { readonly entryId: string, readonly csr: Uint8Array }[], signal: AbortSignal) {
    const { results } = await this.#channel.use(
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
      const { svid } = await this.#channel.use(
        channel => channel.client(svidService).newJWTSVID({ entryId, audience }, { signal, timeoutMs })
      )
      if (svid === undefined) throw new SpiffeError('jwt_svid_malformed', 'the server answered without a token')
      return { token: svid.token, issuedAt: fromUnix(svid.issuedAt), expiresAt: fromUnix(svid.expiresAt) }
    } catch (error) {
      throw error instanceof RpcError ? new SpiffeError(jwtFailure(error), 'the server did not sign a JWT-SVID', { cause: error }) : error
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#channel[Symbol.asyncDispose]() }
}

/** What a workload learns when the server would not sign: whether to ask again. */
function jwtFailure ({ status, code }: RpcError): ErrorCode {
  if (code === 'jwt_disabled' || status === 'UNIMPLEMENTED') return 'jwt_disabled'
  if (status === 'NOT_FOUND') return 'entry_not_authorized'
  if (status === 'INVALID_ARGUMENT') return 'argument_invalid'
  return 'server_unreachable'
}

function fromUnix (seconds: bigint): Date { return new Date(Number(seconds) * 1000) }

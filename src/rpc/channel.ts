import { ChannelCredentials, Client, type ChannelOptions } from '@grpc/grpc-js'
import type { Logger } from '../runtime/logger.ts'
import type { CallsOf, Methods, Service } from '../wire/service.ts'
import { callMethod, type CallOptions } from './client-call.ts'
import type { HandshakePatience } from './handshake-patience.ts'
import { PeerCheckingCredentials } from './tls-credentials.ts'
import type { TlsDemands, TlsIdentity } from './tls-identity.ts'

export type { CallOptions } from './client-call.ts'
/** The methods of a service as a caller sees them. */
export type ClientOf<M extends Methods> = CallsOf<M, CallOptions>

/** A way to one server, connected when first used and reconnected when lost. Disposing cancels its calls. */
export interface Channel extends AsyncDisposable {
  client<M extends Methods> (service: Service<M>): ClientOf<M>
}

export interface ChannelLimits {
  /** Of one answer. */
  readonly maxMessageBytes?: number
  /** Longest pause between two attempts to connect. */
  readonly maxBackoffMs?: number
  /**
   * While a call is open, how long the server may be silent before it is asked whether it lives; the connection is given up half as long
   * after that. Not asked unless given: gRPC servers refuse clients that ask more often than they were told to expect.
   */
  readonly keepaliveMs?: number | undefined
}

export interface TlsChannelOptions extends ChannelLimits, TlsDemands {
  /** `host:port`, `[IPv6]:port`, or `unix:/path`. */
  readonly address: string
  /** Our SVID, read at each new connection; undefined: connect anonymously. */
  readonly identity?: () => TlsIdentity | undefined
  /**
   * Decides whether the server is who it must be; throws to refuse. The host name proves nothing.
   * @param chain DER, leaf first, as presented
   */
  readonly verifyServer: (chain: readonly Uint8Array[]) => void
  /** Of this channel alone unless given: a client that opens one channel after the other remembers how long it had to wait. */
  readonly patience?: HandshakePatience
  readonly log: Logger
}

export function openUnixChannel (path: string, limits: ChannelLimits = {}): Channel {
  return new GrpcChannel(`unix:${path}`, ChannelCredentials.createInsecure(), limits)
}

/** Each connection is made with the identity of that moment; one that is open keeps the one it was made with. */
export function openTlsChannel (options: TlsChannelOptions): Channel {
  const { address } = options
  return new GrpcChannel(address.startsWith('unix:') ? address : `dns:${address}`, new PeerCheckingCredentials(options), options)
}

class GrpcChannel implements Channel {
  readonly #client: Client
  readonly #credentials: ChannelCredentials
  readonly #closed = new AbortController()

  constructor (target: string, credentials: ChannelCredentials, limits: ChannelLimits) {
    const { maxMessageBytes = 64 * 1024 * 1024, maxBackoffMs = 5000, keepaliveMs } = limits
    const options: ChannelOptions = {
      'grpc.enable_channelz': 0,
      'grpc.max_receive_message_length': maxMessageBytes,
      'grpc.max_send_message_length': -1,
      // Connections are not shared between channels: another channel may have another identity.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.service_config_disable_resolution': 1,
      'grpc.enable_http_proxy': 0,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.min_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': maxBackoffMs,
      ...keepaliveMs === undefined ? {} : { 'grpc.keepalive_time_ms': keepaliveMs, 'grpc.keepalive_timeout_ms': keepaliveMs / 2 }
    }
    this.#credentials = credentials
    this.#client = new Client(target, credentials, options)
  }

  client<M extends Methods> (service: Service<M>): ClientOf<M> {
    const refusal = () => this.#credentials instanceof PeerCheckingCredentials ? this.#credentials.refusal : undefined
    const calls = Object.entries(service.methods).map(([name, method]) =>
      [name, callMethod({ client: this.#client, path: `/${service.name}/${method.name}`, method, closed: this.#closed.signal, refusal })])
    return Object.fromEntries(calls) as ClientOf<M>
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#closed.abort()
    this.#client.close()
  }
}

import { randomBytes } from 'node:crypto'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { VerifiedX509Svid } from '../x509/verify-svid.ts'
import type { BoundService } from './bound-service.ts'
import type { CallContext } from './call.ts'
import { Connections } from './connections.ts'
import type { GrpcAdapter } from './grpc-adapter.ts'
import { defaultLimits, type RpcLimits } from './limits.ts'
import type { Listener } from './listener.ts'
import { openPlainListener } from './plain-listener.ts'
import type { EndedCall, ServingDeps } from './serve-call.ts'
import { onTcp, onUnix, openTlsListener, type TlsListenerDeps } from './tls-listener.ts'
import type { TlsDemands, TlsIdentity } from './tls-identity.ts'
import { openUnaryAdapter, type UnaryMethod } from './unary-adapter.ts'
import { openUnixListener } from './unix-listener.ts'

export { bind, type BoundService } from './bound-service.ts'

export interface RpcServerOptions {
  readonly services: readonly BoundService[]
  /** Instead of services: methods on bytes, for what must cost next to nothing. `before` is not called. */
  readonly unary?: readonly UnaryMethod[]
  readonly log: Logger
  readonly clock: Clock
  /** Authorization: runs before each handler and before its request is decoded, unless it asks for it; throws to refuse. */
  readonly before?: (context: CallContext) => Promise<void> | void
  /** Level of the line that each call leaves; `info` makes it an audit log. */
  readonly callLevel?: 'debug' | 'info'
  /** Told of each call when it has ended. */
  readonly onEnded?: (call: EndedCall) => void
  readonly limits?: Partial<RpcLimits>
}

export interface UnixListenOptions {
  readonly path: string
  /** Of the socket file; 0o770 unless given. */
  readonly mode?: number
  /** Take the path from a process that listens there; its connections stay with it. */
  readonly takeOver?: boolean
}

export interface TlsOptions extends TlsDemands {
  /** The server's SVID, read now and at each `refreshIdentity`. */
  readonly identity: () => TlsIdentity
  /** The bundle of one trust domain, read at each handshake. */
  readonly bundleOf: (trustDomain: TrustDomain) => Bundle | undefined
  /** Throws to refuse a client whose SVID is valid. */
  readonly acceptClient?: (svid: VerifiedX509Svid) => void
  /** Refuse clients that show no certificate. */
  readonly clientRequired?: boolean
  /** Over the network: whose word is taken for whom a connection is passed on, in the PROXY protocol. Without it nobody's is looked for. */
  readonly isTrustedProxy?: ((address: string) => boolean) | undefined
}

export interface TlsListenOptions extends TlsOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** Whether a service is there for who comes this way; all are unless given. */
  readonly offers?: (service: BoundService) => boolean
}

/** Disposing is graceful: streams end at once, single calls get up to 10 s, then everything is cut. */
export interface RpcServer extends AsyncDisposable {
  /** @throws {SpiffeError} `socket_in_use`, `file_unusable` */
  listenUnix (options: UnixListenOptions): Promise<{ path: string }>
  /** @throws {SpiffeError} `address_unusable` */
  listenTls (options: TlsListenOptions): Promise<{ host: string, port: number }>
  /** Plain text from this machine alone. @throws {SpiffeError} `address_unusable` */
  listenPlain (address: { host: string, port: number }): Promise<{ host: string, port: number }>
  /** Mutual TLS on a Unix socket: who calls is known by SVID alone. @throws {SpiffeError} `socket_in_use`, `file_unusable` */
  listenUnixTls (options: UnixListenOptions & TlsOptions): Promise<{ path: string }>
  /**
   * Sends clients elsewhere: nothing new is accepted, calls go on, and a connection closes with its last one.
   * @returns when there is none any more
   */
  drain (): Promise<void>
  /** New TLS handshakes use `identity()` again; open connections go on. */
  refreshIdentity (): void
}

export function openRpcServer (options: RpcServerOptions): RpcServer {
  return new Server(options)
}

class Server implements RpcServer {
  readonly #options: RpcServerOptions
  readonly #limits: RpcLimits
  readonly #connections = new Connections()
  readonly #listeners: Listener[] = []
  readonly #stopping = new AbortController()
  readonly #stopped = new AbortController()
  readonly #deps: ServingDeps
  #closing: Promise<void> | undefined

  constructor (options: RpcServerOptions) {
    this.#options = options
    this.#limits = { ...defaultLimits, ...options.limits }
    const prefix = randomBytes(4).toString('hex')
    let calls = 0
    this.#deps = {
      connections: this.#connections,
      log: options.log,
      clock: options.clock,
      before: options.before,
      callLevel: options.callLevel ?? 'debug',
      onEnded: options.onEnded,
      stopping: this.#stopping.signal,
      stopped: this.#stopped.signal,
      nextRequestId: () => `${prefix}-${++calls}`,
      running: new Set()
    }
  }

  async listenUnix ({ path, mode = 0o770, takeOver = false }: UnixListenOptions): Promise<{ path: string }> {
    this.#listeners.push(await openUnixListener(path, mode, takeOver, await this.#listenerDeps(false)))
    return { path }
  }

  async listenTls (options: TlsListenOptions): Promise<{ host: string, port: number }> {
    const { listen, address } = onTcp(options)
    this.#listeners.push(await openTlsListener(options, listen, await this.#listenerDeps(true, options.offers)))
    return address()
  }

  async listenPlain (options: { host: string, port: number }): Promise<{ host: string, port: number }> {
    const { listener, address } = await openPlainListener(options, await this.#listenerDeps(false))
    this.#listeners.push(listener)
    return address
  }

  async listenUnixTls (options: UnixListenOptions & TlsOptions): Promise<{ path: string }> {
    this.#listeners.push(await openTlsListener(options, onUnix(options), await this.#listenerDeps(false)))
    return { path: options.path }
  }

  async #listenerDeps (ages: boolean, offers?: TlsListenOptions['offers']): Promise<TlsListenerDeps> {
    const { log, clock } = this.#options
    return { adapter: await this.#adapter(ages, offers), connections: this.#connections, limits: this.#limits, log, clock }
  }

  async #adapter (ages: boolean, offers: TlsListenOptions['offers'] = () => true): Promise<GrpcAdapter> {
    const { services, unary } = this.#options
    if (unary !== undefined) return openUnaryAdapter(unary, this.#deps, this.#limits)
    // The library is a hundred modules: who answers without it does without them.
    const { openGrpcAdapter } = await import('./grpc-adapter.ts')
    return openGrpcAdapter(services.filter(offers), this.#deps, this.#limits, ages)
  }

  async drain (): Promise<void> {
    this.#sendAway()
    await this.#quiet()
  }

  refreshIdentity (): void {
    for (const listener of this.#listeners) listener.refreshIdentity()
  }

  [Symbol.asyncDispose] (): Promise<void> {
    return this.#closing ??= this.#close()
  }

  async #close (): Promise<void> {
    const reason = new SpiffeError('server_stopping', 'the server is stopping')
    this.#sendAway()
    this.#stopping.abort(reason)
    const done = new AbortController()
    const graceOver = this.#options.clock.sleep(this.#limits.stopGraceMs, done.signal).then(() => undefined, () => undefined)
    await Promise.race([graceOver, this.#quiet()])
    done.abort()
    this.#stopped.abort(reason)
    await Promise.all(this.#deps.running)
    for (const listener of this.#listeners) listener.close()
    this.#connections.destroyAll()
  }

  #sendAway (): void {
    for (const listener of this.#listeners) {
      listener.stopAccepting()
      listener.drain()
    }
  }

  /** All calls have ended and their answers have left. */
  async #quiet (): Promise<void> {
    await Promise.all(this.#deps.running)
    await this.#connections.closed()
  }
}

import type { Logger } from '../runtime/logger.ts'
import type { VerifiedX509Svid } from '../x509/verify-svid.ts'
import type { UnixPeer } from './unix-peer.ts'

/** What a handler knows of its call besides the request. */
export interface CallContext {
  readonly caller: Caller
  /** Aborts when the caller cancels, its deadline passes, its connection ends, or the server stops. */
  readonly signal: AbortSignal
  /** `/package.Service/Method`. */
  readonly method: string
  /** Lower-case names; binary values (`…-bin`) are left out. */
  readonly metadata: ReadonlyMap<string, readonly string[]>
  /** Unique to this process's life; in every log line of the call. */
  readonly requestId: string
  /**
   * The call's one request, decoded when it is first asked for; `undefined` for a stream of them. For who decides before the handler runs.
   * @throws {SpiffeError} `message_malformed`
   */
  request? (): unknown
  /** Carries method, caller and request id. */
  readonly log: Logger
}

export type Caller = UnixCaller | TlsCaller

export interface UnixCaller {
  readonly kind: 'unix'
  /** Unique to the connection. */
  readonly connection: string
  readonly peer: UnixPeer
  /** Closes the connection at once, with all its calls. */
  drop (): void
}

export interface TlsCaller {
  readonly kind: 'tls'
  readonly connection: string
  /** The peer's IP address and port; `unix` on a Unix socket. */
  readonly address: string
  /** From where: a Unix socket or the loopback interface are this machine. */
  readonly scope: 'unix' | 'loopback' | 'network'
  /** Verified against the bundle of its own trust domain when the connection was made; undefined: no certificate was shown. */
  readonly svid: VerifiedX509Svid | undefined
  drop (): void
}

/**
 * Looks again at who calls, before each answer on a long stream: a local caller must still be the process it was.
 * @throws {SpiffeError} `caller_gone`
 */
export function checkCaller ({ caller }: CallContext): void {
  if (caller.kind === 'unix') caller.peer.check()
}

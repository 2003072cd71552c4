import type { Server } from 'node:https'
import type { TLSSocket } from 'node:tls'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { verifyX509Svid } from '../x509/verify-svid.ts'
import type { TlsOptions } from './server.ts'
import { contextOptions, peerChain, tlsPolicy } from './tls-identity.ts'

const handshakeTimeout = 10_000

/** For `node:https`: everybody must show a certificate, and who is believed `TlsCallers` says. */
export function mutualTls (tls: TlsOptions): object {
  return { ...tlsPolicy, ALPNProtocols: ['http/1.1'], ...contextOptions(tls.identity(), tls), requestCert: true, handshakeTimeout }
}

/**
 * Who is at the other end of each connection to a server. Whoever is refused is let in to be told so, and nothing else; who is not goes
 * when the SVID ends.
 */
export class TlsCallers {
  readonly #tls: TlsOptions
  readonly #clock: Clock
  readonly #log: Logger
  readonly #refusals = new WeakMap<object, SpiffeError>()

  constructor (tls: TlsOptions, server: Server, { clock, log }: { readonly clock: Clock, readonly log: Logger }) {
    this.#tls = tls
    this.#clock = clock
    this.#log = log
    server.on('secureConnection', socket => this.#take(socket))
    server.on('tlsClientError', (error, socket) => {
      log.debug({ address: socket.remoteAddress, reason: error.message }, 'TLS handshake failed')
      socket.destroy()
    })
  }

  /** Why requests of this connection are not answered; `undefined`: they are. */
  refusalOf (socket: object): SpiffeError | undefined { return this.#refusals.get(socket) }

  #take (socket: TLSSocket): void {
    try {
      const chain = peerChain(socket)
      if (chain.length === 0) throw new SpiffeError('peer_unauthenticated', 'a client certificate is required')
      const now = this.#clock.now()
      const svid = verifyX509Svid(chain, { bundleOf: this.#tls.bundleOf, at: now })
      this.#tls.acceptClient?.(svid)
      this.#cutAfter(socket, svid.expiresAt.getTime() - now.getTime())
    } catch (error) {
      const refusal = error instanceof SpiffeError ? error : new SpiffeError('peer_unauthenticated', 'the certificate could not be checked')
      if (refusal !== error) this.#log.error({ err: error }, 'checking a client failed: this is a bug')
      this.#log.warn({ address: socket.remoteAddress, code: refusal.code, reason: refusal.message }, 'client refused')
      this.#refusals.set(socket, refusal)
    }
  }

  #cutAfter (socket: TLSSocket, ms: number): void {
    const gone = new AbortController()
    socket.once('close', () => gone.abort())
    this.#clock.sleep(ms, gone.signal).then(() => socket.destroy(), () => undefined)
  }
}

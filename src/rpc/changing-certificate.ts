import type { Server } from 'node:https'
import type { Socket } from 'node:net'
import type { SecureContextOptions } from 'node:tls'
import { asksForChallenge, showChallenge } from './challenge-server.ts'
import type { ServingCertificate } from './serving-certificate.ts'

export interface ChangingCertificateOptions {
  /** Versions, ciphers and the like, whatever the certificate is. */
  readonly policy: SecureContextOptions
  /** Of a handshake that answers a challenge. */
  readonly handshakeTimeoutMs: number
}

/**
 * Has a TLS server show the newest certificate on each connection. Accepted connections are no longer taken into TLS by themselves: whoever
 * admits them calls `begin`.
 */
export class ChangingCertificate {
  readonly #server: Server
  readonly #certificate: ServingCertificate
  readonly #options: ChangingCertificateOptions
  readonly #beginTls: (this: Server, socket: Socket) => void
  #shown: SecureContextOptions | undefined

  /** @param server that nobody has added a listener of `connection` to, made with what the certificate is now */
  constructor (server: Server, certificate: ServingCertificate, options: ChangingCertificateOptions) {
    this.#server = server
    this.#certificate = certificate
    this.#options = options
    this.#shown = certificate.current()
    const [beginTls] = server.listeners('connection') as [(this: Server, socket: Socket) => void]
    this.#beginTls = beginTls
    server.removeAllListeners('connection')
  }

  /** Whether a client may come with ACME's challenge: then `begin` needs its first words. */
  get isChallenged (): boolean { return this.#certificate.challenge?.() !== undefined }

  /** SVIDs are renewed, files are written anew: the next handshakes get the newest. */
  showNewest (): void {
    const newest = this.#certificate.current()
    if (newest === undefined || newest === this.#shown) return
    this.#server.setSecureContext({ ...newest, ...this.#options.policy })
    this.#shown = newest
  }

  /** Begins TLS; whoever comes before there is a certificate is sent away. */
  begin (socket: Socket): void {
    const challenge = this.#certificate.challenge?.()
    if (challenge !== undefined && asksForChallenge(socket)) showChallenge(socket, challenge, this.#options.handshakeTimeoutMs)
    else if (this.#shown !== undefined) this.#beginTls.call(this.#server, socket)
    else socket.destroy()
  }
}

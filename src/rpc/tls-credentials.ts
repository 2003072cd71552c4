import { X509Certificate } from 'node:crypto'
import type { Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { connect } from 'node:tls'
import { CallCredentials, ChannelCredentials } from '@grpc/grpc-js'
import { SpiffeError } from '../spiffe/errors.ts'
import type { TlsChannelOptions } from './channel.ts'
import { HandshakePatience } from './handshake-patience.ts'
import { peerChain, secureContextOf, tlsPolicy } from './tls-identity.ts'

type SecureConnector = ReturnType<ChannelCredentials['_createSecureConnector']>

/** Channel credentials that show an SVID and let `verifyServer` decide about the server's chain. */
export class PeerCheckingCredentials extends ChannelCredentials {
  readonly #options: TlsChannelOptions
  readonly #patience: HandshakePatience
  /** Why the latest server was refused; explains why there is no connection. */
  refusal: SpiffeError | undefined

  constructor (options: TlsChannelOptions) {
    super()
    this.#options = options
    this.#patience = options.patience ?? new HandshakePatience()
  }

  override _isSecure (): boolean { return true }
  override _equals (other: ChannelCredentials): boolean { return this === other }

  override _createSecureConnector (_target: unknown, _options: unknown, callCredentials?: CallCredentials): SecureConnector {
    return {
      connect: async socket => ({ socket: await this.#connect(socket), secure: true }),
      waitForReady: async () => {},
      getCallCredentials: () => callCredentials ?? CallCredentials.createEmpty(),
      destroy () {}
    }
  }

  #connect (socket: Socket): Promise<Socket> {
    const { address, identity, verifyServer, requirePqKem, log } = this.#options
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => {
        tlsSocket.destroy()
        reject(error)
      }
      log.debug({ address }, 'connected to the server; TLS begins')
      const tlsSocket = connect({ ...tlsPolicy, socket, secureContext: secureContextOf(identity?.(), { requirePqKem }) }, () => {
        tlsSocket.setTimeout(0)
        this.#patience.wasAnswered()
        const chain = peerChain(tlsSocket)
        try {
          verifyServer(chain)
          if (log.isLevelEnabled('debug')) log.debug({ address, tls: tlsSocket.getProtocol(), ...factsOf(chain[0]) }, 'server verified')
        } catch (error) {
          const refusal = error instanceof SpiffeError
            ? error
            : new SpiffeError('peer_unauthenticated', 'the server could not be checked', { cause: error })
          this.refusal = refusal
          const { code, message, requirement, cause } = refusal
          log.warn({ address, code, reason: message, requirement, err: cause }, 'server refused')
          return fail(refusal)
        }
        if (tlsSocket.alpnProtocol !== 'h2') return fail(new Error('the server does not speak HTTP/2'))
        this.refusal = undefined
        tlsSocket.once('close', () => log.debug({ address }, 'connection to the server closed'))
        resolve(tlsSocket)
      })
      tlsSocket.setTimeout(this.#patience.ms, () => void this.#giveUp(socket, fail))
      tlsSocket.on('error', (error: NodeJS.ErrnoException) => {
        log.debug({ address, reason: error.message }, 'connection failed')
        reject(requirePqKem === true && error.code?.startsWith('ERR_SSL') === true ? withoutMlKem(error) : error)
      })
      tlsSocket.once('close', () => reject(new Error('the server closed the connection')))
    })
  }

  /** Timers run before sockets are read: in a process that was held up itself the answer may lie there already. */
  async #giveUp (socket: Socket, fail: (error: Error) => void): Promise<void> {
    const before = socket.bytesRead
    await nextTurn()
    if (socket.bytesRead > before) return
    this.#patience.waitedInVain()
    fail(new Error('the TLS handshake took too long'))
  }
}

/** OpenSSL's own words say no more than that there was a handshake. */
function withoutMlKem (cause: Error): Error {
  return new Error('require_pq_kem is set, and the server does not take TLS 1.3 with ML-KEM (or refuses for another reason): ' +
    cause.message.trim(), { cause })
}

function factsOf (leaf: Uint8Array | undefined): Readonly<Record<string, unknown>> {
  if (leaf === undefined) return {}
  const { subjectAltName: names, serialNumber, validToDate } = new X509Certificate(leaf)
  return { names, serialNumber, expires: validToDate.toISOString() }
}

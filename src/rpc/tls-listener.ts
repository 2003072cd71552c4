import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import type { Clock } from '../runtime/clock.ts'
import { hostAndPort } from '../runtime/host-and-port.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { verifyX509Svid, type VerifiedX509Svid } from '../x509/verify-svid.ts'
import { acceptAll } from './accept-all.ts'
import type { TlsCaller } from './call.ts'
import { claimSocketPath } from './claim-socket-path.ts'
import type { Connections, Identified } from './connections.ts'
import type { GrpcAdapter } from './grpc-adapter.ts'
import { HandshakeGate } from './handshake-gate.ts'
import type { RpcLimits } from './limits.ts'
import type { Listener } from './listener.ts'
import { noNetwork, peerNetwork } from './peer-network.ts'
import { ProxiedPeers } from './proxied-peers.ts'
import type { PeerAddress } from './proxy-header.ts'
import type { TlsListenOptions, TlsOptions, UnixListenOptions } from './server.ts'
import type { Ends } from './socket-ends.ts'
import { Tally } from './tally.ts'
import { contextOptions, peerChain, tlsPolicy } from './tls-identity.ts'

const backlog = 4096
/** How long a client with a bad certificate may stay to be told so. */
const refusedLingerMs = 2000

export interface TlsListenerDeps {
  readonly adapter: GrpcAdapter
  readonly connections: Connections
  readonly limits: RpcLimits
  readonly log: Logger
  readonly clock: Clock
}

/** Makes a server accept connections at its place. @returns ends that */
export type Listen = (server: Server) => Promise<() => void>

/** `address` is known once it listens. */
export function onTcp (
  { host, port }: TlsListenOptions
): { readonly listen: Listen, readonly address: () => { host: string, port: number } } {
  let bound: AddressInfo
  return {
    listen: server => new Promise((resolve, reject) => {
      server.once('error', cause => {
        reject(new SpiffeError('address_unusable', `cannot listen on ${host}:${port}: ${cause.message}`, { cause }))
      })
      server.listen({ host, port, backlog }, () => {
        server.removeAllListeners('error')
        bound = server.address() as AddressInfo
        resolve(() => { server.close() })
      })
    }),
    address: () => ({ host: bound.address, port: bound.port })
  }
}

export function onUnix ({ path, mode = 0o770, takeOver = false }: UnixListenOptions): Listen {
  return async server => {
    const release = await claimSocketPath(server, path, mode, backlog, takeOver)
    return () => {
      release()
      server.close()
    }
  }
}

/**
 * Accepts mutual TLS. A client's chain is checked against the bundle of its own trust domain only; a client without a
 * certificate is let in as anonymous unless `clientRequired`. A bad certificate is answered UNAUTHENTICATED on each
 * call, and the connection cut soon after. A connection ends when the client's SVID expires.
 */
export async function openTlsListener (options: TlsOptions, listen: Listen, deps: TlsListenerDeps): Promise<Listener> {
  const { adapter, connections, limits, log, clock } = deps
  const closed = new AbortController()
  const tls = createTlsServer({
    ...tlsPolicy, ...contextOptions(options.identity(), options), requestCert: true, handshakeTimeout: limits.handshakeTimeoutMs
  })
  const gate = new HandshakeGate({
    most: limits.maxHandshakes, mostPerNetwork: limits.maxHandshakesPerNetwork, slotMs: limits.handshakeSlotMs,
    firstWordMs: limits.handshakeTimeoutMs, clock
  }, socket => tls.emit('connection', socket))
  const proxied = options.isTrustedProxy && new ProxiedPeers({
    isTrusted: options.isTrustedProxy, headerMs: limits.handshakeTimeoutMs, clock, log
  })
  // Accepts for the other one, which listens nowhere.
  const server = createServer(enter)
  acceptAll(server, enter)
  let open = 0
  const openOf = new Tally()
  tls.on('tlsClientError', (error, socket) => {
    log.debug({ address: addressOf(socket, proxied?.clientOf(socket)), reason: error.message }, 'TLS handshake failed')
    socket.destroy()
  })
  tls.on('secureConnection', accept)
  const stopAccepting = await listen(server)
  server.on('error', error => log.error({ err: error }, 'accepting failed'))
  const isUnix = typeof server.address() === 'string'

  function enter (socket: Socket): void {
    if (open >= limits.maxConnections) {
      log.warn({ limit: limits.maxConnections }, 'connection refused: too many are open')
      socket.destroy()
      return
    }
    open++
    socket.once('close', () => { open-- })
    if (proxied === undefined) {
      if (counts(socket, socket.remoteAddress)) gate.enter(socket)
      return
    }
    // A proxy's connections count for its clients, who are not known yet.
    const trusted = proxied.trusts(socket)
    if (!trusted && !counts(socket, socket.remoteAddress)) return
    proxied.meet(socket, said => {
      const address = proxied.clientOf(socket)?.address ?? socket.remoteAddress
      if (!trusted || counts(socket, address)) gate.enter(socket, address, said)
    })
  }

  /** @returns false when whoever comes from there has too many, and the socket is gone */
  function counts (socket: Socket, address: string | undefined): boolean {
    const network = peerNetwork(address)
    if (network !== noNetwork && openOf.of(network) >= limits.maxConnectionsPerNetwork) {
      log.warn({ network, limit: limits.maxConnectionsPerNetwork }, 'connection refused: its address has too many')
      socket.destroy()
      return false
    }
    openOf.add(network)
    socket.once('close', () => openOf.remove(network))
    return true
  }

  function accept (socket: TLSSocket): void {
    gate.done(socket)
    const client = proxied?.clientOf(socket)
    const address = addressOf(socket, client)
    socket.on('error', error => log.debug({ address, reason: error.message }, 'connection failed'))
    if (socket.alpnProtocol !== 'h2') {
      log.debug({ address }, 'connection refused: the client does not speak HTTP/2')
      socket.destroy()
      return
    }
    const key = connections.nextKey('tls')
    log.debug({ address, connection: key, tls: socket.getProtocol() }, 'connection accepted')
    const identified = identify(socket, key, address, client !== undefined)
    if (!connections.add(key, socket, identified)) return
    socket.once('close', () => log.debug({ address, connection: key }, 'connection closed'))
    if ('refusal' in identified) {
      const { code, message, requirement, details } = identified.refusal
      log.warn({ address, connection: key, code, reason: message, requirement, details }, 'client refused')
      cutAfter(socket, refusedLingerMs)
    } else if (identified.caller.kind === 'tls' && identified.caller.svid !== undefined) {
      cutAfter(socket, identified.caller.svid.expiresAt.getTime() - clock.now().getTime())
    }
    adapter.inject(socket)
  }

  function identify (socket: TLSSocket, key: string, address: string, passedOn: boolean): Identified {
    try {
      const svid = verify(socket)
      if (svid === undefined) log.debug({ address, connection: key }, 'client shows no certificate')
      else log.debug({ address, connection: key, ...factsOf(svid) }, 'client verified')
      const scope = isUnix ? 'unix' : !passedOn && isLoopback(socket.remoteAddress) ? 'loopback' : 'network'
      const caller: TlsCaller = { kind: 'tls', connection: key, address, scope, svid, drop: () => { socket.destroy() } }
      return { caller }
    } catch (error) {
      if (error instanceof SpiffeError) return { refusal: error }
      log.error({ err: error }, 'checking a client failed: this is a bug')
      return { refusal: new SpiffeError('peer_unauthenticated', 'the certificate could not be checked') }
    }
  }

  function verify (socket: TLSSocket): VerifiedX509Svid | undefined {
    const chain = peerChain(socket)
    if (chain.length === 0) {
      if (options.clientRequired === true) throw new SpiffeError('peer_unauthenticated', 'a client certificate is required')
      return undefined
    }
    const svid = verifyX509Svid(chain, { bundleOf: options.bundleOf, at: clock.now() })
    options.acceptClient?.(svid)
    return svid
  }

  function cutAfter (socket: TLSSocket, ms: number): void {
    const gone = new AbortController()
    socket.once('close', () => gone.abort())
    clock.sleep(ms, AbortSignal.any([gone.signal, closed.signal])).then(() => socket.destroy(), () => undefined)
  }

  return {
    stopAccepting () {
      stopAccepting()
      proxied?.close()
      gate.close()
    },
    refreshIdentity: () => tls.setSecureContext(contextOptions(options.identity(), options)),
    drain: () => adapter.drain(),
    close () {
      adapter.destroy()
      closed.abort()
    }
  }
}

function factsOf ({ id, leaf, expiresAt }: VerifiedX509Svid): Readonly<Record<string, string>> {
  return { spiffeId: id, serialNumber: leaf.serialNumber, expires: expiresAt.toISOString() }
}

function isLoopback (address: string | undefined): boolean {
  return address !== undefined && /^(::ffff:)?127\.|^::1$/.test(address)
}

function addressOf ({ remoteAddress, remotePort }: Ends, client?: PeerAddress): string {
  if (client !== undefined) return hostAndPort(client.address, client.port)
  return remoteAddress === undefined ? 'unix' : hostAndPort(remoteAddress, String(remotePort))
}

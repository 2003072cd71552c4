import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { SecureContextOptions } from 'node:tls'
import { constants } from 'node:crypto'
import { AddressAllowance } from '../../rpc/address-allowance.ts'
import { ChangingCertificate } from '../../rpc/changing-certificate.ts'
import { HandshakeGate } from '../../rpc/handshake-gate.ts'
import { peerNetwork } from '../../rpc/peer-network.ts'
import type { ServingCertificate } from '../../rpc/serving-certificate.ts'
import { Tally } from '../../rpc/tally.ts'
import { demandedOptions, type TlsDemands } from '../../rpc/tls-identity.ts'
import type { Clock } from '../../runtime/clock.ts'
import { hostAndPort } from '../../runtime/host-and-port.ts'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { answerRequest, refuse } from './answer-request.ts'
import { defaultEndpointLimits, type EndpointLimits } from './endpoint-limits.ts'
import type { OwnBundleSource } from './own-bundle-source.ts'
import { Publication } from './published-document.ts'

export interface BundleEndpointOptions extends TlsDemands {
  readonly host: string
  /** 0 lets the system choose. */
  readonly port: number
  /** `/` by default. */
  readonly path?: string | undefined
  /** For a bundle without a hint of its own; 300 by default. */
  readonly refreshHintSeconds?: number | undefined
  readonly limits?: Partial<EndpointLimits> | undefined
}

export interface BundleEndpointDeps {
  readonly bundle: OwnBundleSource
  /** What makes the profile: an X509-SVID, or a certificate that web clients believe. */
  readonly certificate: ServingCertificate
  readonly clock: Clock
  readonly log: Logger
  /** Told once it listens. */
  readonly onListening?: (address: { readonly host: string, readonly port: number }) => void
}

/** Mozilla's intermediate profile (FED-11): forward secrecy and AEAD alone; no tickets. */
const intermediateProfile = {
  minVersion: 'TLSv1.2',
  ciphers: [
    'TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256',
    'ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-RSA-AES256-GCM-SHA384',
    'ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-RSA-CHACHA20-POLY1305'
  ].join(':'),
  ecdhCurve: 'X25519MLKEM768:X25519:prime256v1:secp384r1',
  secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION
} as const satisfies SecureContextOptions

/**
 * Serves the trust domain's own bundle to whoever asks (Federation §5.2), until the signal aborts; then answers under way end, and no
 * others begin. No client has to prove who it is (FED-16).
 * @throws {SpiffeError} `address_unusable`
 */
export async function serveBundleEndpoint (
  options: BundleEndpointOptions, deps: BundleEndpointDeps, signal: AbortSignal
): Promise<void> {
  signal.throwIfAborted()
  const limits = { ...defaultEndpointLimits, ...options.limits }
  const { log } = deps
  const { server, connections, stop: stopAdmitting } = openServer(options, deps, limits)
  const address = await listen(server, options)
  log.info({ address: hostAndPort(address.host, address.port), path: options.path ?? '/' }, 'serving the bundle')
  deps.onListening?.(address)
  const closed = once(server, 'close')
  const stop = () => {
    stopAdmitting()
    server.close()
    server.closeIdleConnections()
    const end = () => { for (const socket of connections) socket.destroy() }
    const over = new AbortController()
    void closed.then(() => over.abort())
    deps.clock.sleep(limits.stopGraceMs, over.signal).then(end, () => undefined)
  }
  if (signal.aborted) stop()
  else signal.addEventListener('abort', stop, { once: true })
  await closed
}

function openServer (options: BundleEndpointOptions, deps: BundleEndpointDeps, limits: EndpointLimits) {
  const { clock, log, certificate } = deps
  const publication = new Publication(deps.bundle, options.refreshHintSeconds ?? 300)
  const allowance = new AddressAllowance(limits.rate)
  const mayAsk = (network: string) => allowance.take(network, clock.monotonicMs()) === 0
  const policy = { ...intermediateProfile, ...demandedOptions(options) }
  const server = createServer({
    ...certificate.current(), ...policy, requestCert: false, ALPNProtocols: ['http/1.1'],
    handshakeTimeout: limits.handshakeTimeoutMs,
    maxHeaderSize: limits.maxHeaderBytes, headersTimeout: limits.headersTimeoutMs, requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.idleTimeoutMs, connectionsCheckingInterval: 1_000
  }, (request, response) => {
    const address = request.socket.remoteAddress ?? ''
    const status = mayAsk(peerNetwork(address))
      ? answerRequest(request, response, options.path ?? '/', publication)
      : refuse(response, 429, { 'retry-after': '1' })
    log.debug({ address, method: request.method, status }, 'bundle endpoint asked')
  })
  server.maxRequestsPerSocket = limits.maxRequestsPerConnection
  server.timeout = limits.stalledTimeoutMs
  server.on('tlsClientError', (error, socket) => {
    log.debug({ address: socket.remoteAddress, reason: error.message }, 'TLS handshake failed')
    socket.destroy()
  })

  // TLS begins when a connection was admitted and its turn has come.
  const changing = new ChangingCertificate(server, certificate, { policy, handshakeTimeoutMs: limits.handshakeTimeoutMs })
  const gate = new HandshakeGate({
    most: limits.maxHandshakes, mostPerNetwork: Math.ceil(limits.maxHandshakes * 3 / 4), slotMs: 500,
    firstWordMs: limits.handshakeTimeoutMs, clock
  }, socket => changing.begin(socket))
  server.on('secureConnection', socket => gate.done(socket))
  const connections = new Set<Socket>()
  const openOf = new Tally()
  // Typed as any stream, since it is for plain HTTP; here the kernel's sockets arrive.
  server.on('connection', stream => {
    const socket = stream as Socket
    const network = peerNetwork(socket.remoteAddress)
    const refusal = connections.size >= limits.maxConnections ? 'too many are open'
      : openOf.of(network) >= limits.maxConnectionsPerAddress ? 'too many are open from there'
        : mayAsk(network) ? undefined : 'too many come from there'
    if (refusal !== undefined) {
      log.debug({ address: socket.remoteAddress, reason: refusal }, 'bundle endpoint: connection refused')
      socket.destroy()
      return
    }
    connections.add(socket)
    openOf.add(network)
    socket.once('close', () => {
      connections.delete(socket)
      openOf.remove(network)
    })
    changing.showNewest()
    gate.enter(socket)
  })

  return { server, connections, stop: () => gate.close() }
}

async function listen (server: Server, { host, port }: BundleEndpointOptions): Promise<{ readonly host: string, readonly port: number }> {
  try {
    server.listen({ host, port })
    await once(server, 'listening')
    const { address, port: bound } = server.address() as AddressInfo
    return { host: address, port: bound }
  } catch (cause) {
    throw new SpiffeError('address_unusable', `cannot listen on ${hostAndPort(host, port)}: ${(cause as Error).message}`, { cause })
  }
}

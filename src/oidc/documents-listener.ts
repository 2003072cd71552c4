import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { AddressAllowance } from '../rpc/address-allowance.ts'
import { ChangingCertificate } from '../rpc/changing-certificate.ts'
import { claimSocketPath } from '../rpc/claim-socket-path.ts'
import { peerNetwork } from '../rpc/peer-network.ts'
import type { ServingCertificate } from '../rpc/serving-certificate.ts'
import { Tally } from '../rpc/tally.ts'
import type { Clock } from '../runtime/clock.ts'
import { hostAndPort } from '../runtime/host-and-port.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { type Answer, type Asked, refusal } from './answer-request.ts'
import type { OidcMetrics } from './oidc-metrics.ts'

export interface ListenerLimits {
  readonly maxConnections: number
  /** Of one IPv4 address, or one /64 of IPv6. */
  readonly maxConnectionsPerAddress: number
  /** Of one address, on average; twice as many at once. */
  readonly requestsPerSecond: number
}

/** Where requests arrive. */
export type Listening =
  /** @param host absent: all addresses */
  | { readonly kind: 'tcp', readonly host: string | undefined, readonly port: number, readonly tls: ServingCertificate | undefined }
  | { readonly kind: 'unix', readonly path: string }

export interface ListenerDeps {
  readonly answer: (asked: Asked) => Answer
  readonly clock: Pick<Clock, 'monotonicMs'>
  readonly log: Logger
  readonly logRequests: boolean
  readonly metrics: Pick<OidcMetrics, 'answered' | 'connectionRefused'>
}

export interface DocumentsListener extends AsyncDisposable {
  /** `https://127.0.0.1:443`, `http://…` or `unix:///path`. */
  readonly where: string
  readonly port: number | undefined
  readonly connections: number
}

/** Who says nothing, says it slowly, or says much, is gone before long. Answers are small and made at once. */
const httpOptions = {
  maxHeaderSize: 8_192, headersTimeout: 5_000, requestTimeout: 5_000, connectionsCheckingInterval: 1_000, keepAliveTimeout: 15_000,
  insecureHTTPParser: false, requireHostHeader: true
} as const satisfies ServerOptions
const handshakeTimeoutMs = 5_000
const tlsPolicy = { minVersion: 'TLSv1.2' } as const
const silenceMs = 30_000
const requestsPerConnection = 1_000
/** New connections of one address may come as often as its requests, after a pause as many at once as in so many seconds. */
const connectionBurstSeconds = 4
const backlog = 511
/** Characters of what a caller sent. */
const longestLogged = 256

/** @throws {SpiffeError} `address_unusable`, `socket_in_use`, `file_unusable` */
export async function openDocumentsListener (at: Listening, limits: ListenerLimits, deps: ListenerDeps): Promise<DocumentsListener> {
  const { metrics } = deps
  const tls = at.kind === 'tcp' ? at.tls : undefined
  const allowance = new AddressAllowance({ perSecond: limits.requestsPerSecond, burst: limits.requestsPerSecond * 2 })
  const place: Place = { isTls: tls !== undefined, isUnix: at.kind === 'unix', port: undefined, allowance }
  const onRequest = (request: IncomingMessage, response: ServerResponse) => respond(request, response, place, deps)
  const server: Server | TlsServer = tls === undefined
    ? createServer(httpOptions, onRequest)
    : createTlsServer({
      ...httpOptions, ...tls.current(), ...tlsPolicy, handshakeTimeout: handshakeTimeoutMs, ALPNProtocols: ['http/1.1']
    }, onRequest)
  const changing = tls === undefined
    ? undefined : new ChangingCertificate(server as TlsServer, tls, { policy: tlsPolicy, handshakeTimeoutMs })
  server.maxConnections = limits.maxConnections
  server.maxRequestsPerSocket = requestsPerConnection
  server.timeout = silenceMs
  const sockets = at.kind === 'unix' ? countConnections(server) : countConnections(server, { ...limits, ...deps })
  if (changing !== undefined) server.on('connection', (socket: Socket) => beginTls(socket, changing))
  // What says `Expect: 100-continue` has a body, which nobody reads.
  server.on('checkContinue', onRequest).on('checkExpectation', onRequest)
  server.on('clientError', (_error, socket) => {
    metrics.connectionRefused('malformed')
    if ((socket as Socket).writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n')
    else socket.destroy()
  })
  server.on('tlsClientError', (_error: unknown, socket: Socket) => {
    metrics.connectionRefused('handshake')
    socket.destroy()
  })
  server.on('drop', () => metrics.connectionRefused('total'))
  const release = await listen(server, at)
  place.port = at.kind === 'tcp' ? (server.address() as AddressInfo).port : undefined
  return {
    where: whereOf(at, place.port),
    port: place.port,
    get connections () { return sockets.size },
    async [Symbol.asyncDispose] () {
      release()
      const closed = once(server, 'close')
      server.close()
      server.closeIdleConnections()
      // Answers are made at once: what is still there is being sent, or never asked.
      for (const socket of sockets) socket.destroySoon()
      await closed
    }
  }
}

/** Of those that were not refused. Only while a CA may look for its challenge do first words have to come before TLS begins. */
function beginTls (socket: Socket, changing: ChangingCertificate): void {
  if (socket.destroyed) return
  changing.showNewest()
  if (!changing.isChallenged) return changing.begin(socket)
  socket.on('error', () => undefined).setTimeout(handshakeTimeoutMs, () => socket.destroy())
  socket.once('readable', () => {
    socket.setTimeout(0)
    changing.begin(socket)
  })
}

function whereOf (at: Listening, port: number | undefined): string {
  if (at.kind === 'unix') return `unix://${at.path}`
  return `${at.tls === undefined ? 'http' : 'https'}://${hostAndPort(at.host ?? '*', port ?? at.port)}`
}

interface Place {
  readonly isTls: boolean
  readonly isUnix: boolean
  port: number | undefined
  readonly allowance: AddressAllowance
}

function respond (request: IncomingMessage, response: ServerResponse, place: Place, deps: ListenerDeps): void {
  const { log, logRequests, metrics, clock } = deps
  const address = request.socket.remoteAddress ?? ''
  const waitSeconds = place.isUnix ? 0 : place.allowance.take(peerNetwork(address), clock.monotonicMs())
  const asked = askedBy(request, place)
  let answer: Answer
  try {
    answer = waitSeconds === 0
      ? deps.answer(asked)
      : { ...refusal(429, 'rate_limited', 'too many requests', { 'retry-after': String(waitSeconds) }), document: 'none' }
  } catch (error) {
    log.error({ err: error }, 'a request failed: this is a bug')
    answer = { status: 500, headers: { 'cache-control': 'no-store' }, body: new Uint8Array(), document: 'none' }
  }
  const { status, body, document, code } = answer
  metrics.answered(document, status)
  if (logRequests) {
    const [target, host] = [asked.target, asked.hosts[0]].map(text => text?.slice(0, longestLogged))
    log.info({ method: asked.method, target, host, address, status, code }, 'request answered')
  }
  const ends = asked.hasBody || status === 429
  response.writeHead(status, {
    ...answer.headers, ...status === 304 ? {} : { 'content-length': body.length }, ...ends ? { connection: 'close' } : {}
  })
  response.end(asked.method === 'HEAD' || status === 304 ? undefined : body)
  // A body that nobody reads would keep the connection busy.
  if (ends) response.once('finish', () => request.socket.destroySoon())
}

function askedBy (request: IncomingMessage, { isTls, isUnix, port }: Place): Asked {
  const { headers, rawHeaders } = request
  const hosts = rawHeaders.filter((_value, index) => index % 2 === 1 && (rawHeaders[index - 1] as string).toLowerCase() === 'host')
  const length = headers['content-length']
  const text = (name: string) => typeof headers[name] === 'string' ? headers[name] : undefined
  return {
    method: request.method ?? '',
    target: request.url ?? '',
    hosts,
    forwarded: isUnix ? { host: text('x-forwarded-host'), proto: text('x-forwarded-proto') } : undefined,
    hasBody: headers['transfer-encoding'] !== undefined || headers.expect !== undefined || (length !== undefined && length !== '0'),
    ifNoneMatch: headers['if-none-match'],
    isTls,
    listenerPort: port
  }
}

/** Each address keeps others out with no more than its share, of connections and of handshakes. @param share of each; none: no limit */
function countConnections (server: Server, share?: ListenerLimits & ListenerDeps): ReadonlySet<Socket> {
  const open = new Set<Socket>()
  const openOf = new Tally()
  const perSecond = share?.requestsPerSecond ?? Infinity
  const arrivals = new AddressAllowance({ perSecond, burst: perSecond * connectionBurstSeconds })
  server.on('connection', (socket: Socket) => {
    const caller = peerNetwork(socket.remoteAddress)
    if (share !== undefined) {
      const isFull = openOf.of(caller) >= share.maxConnectionsPerAddress
      if (isFull || arrivals.take(caller, share.clock.monotonicMs()) > 0) {
        share.metrics.connectionRefused(isFull ? 'address' : 'rate')
        socket.destroy()
        return
      }
    }
    openOf.add(caller)
    open.add(socket)
    socket.once('close', () => {
      open.delete(socket)
      openOf.remove(caller)
    })
  })
  return open
}

async function listen (server: Server, at: Listening): Promise<() => void> {
  if (at.kind === 'unix') return claimSocketPath(server, at.path, 0o770, backlog)
  const { host, port } = at
  try {
    server.listen({ ...host === undefined ? {} : { host }, port, backlog })
    await once(server, 'listening')
    return () => {}
  } catch (cause) {
    throw new SpiffeError('address_unusable', `cannot listen on ${hostAndPort(host ?? '*', port)}: ${(cause as Error).message}`, { cause })
  }
}

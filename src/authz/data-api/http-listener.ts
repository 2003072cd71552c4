import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { claimSocketPath } from '../../rpc/claim-socket-path.ts'
import { checkLoopback } from '../../rpc/plain-listener.ts'
import type { TlsOptions } from '../../rpc/server.ts'
import { mutualTls, TlsCallers } from '../../rpc/tls-callers.ts'
import { contextOptions } from '../../rpc/tls-identity.ts'
import type { Clock } from '../../runtime/clock.ts'
import { hostAndPort } from '../../runtime/host-and-port.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { EndpointAddress } from '../../spiffe/endpoint-address.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { HttpAnswer } from './data-api.ts'

export type HttpHandler = (request: IncomingMessage, body: Buffer) => Promise<HttpAnswer>

export interface HttpDeps {
  readonly log: Logger
  readonly clock: Clock
  /** Mutual TLS; without it only this machine is served over TCP. */
  readonly tls?: HttpTls | undefined
  /** Told where, once it listens. */
  readonly ready?: (where: string) => void
}

export interface HttpTls extends TlsOptions {
  /** Called when `identity` has another; those of servers that run. */
  readonly refreshers: Set<() => void>
}

const largestBody = 4 * 1_048_576
const tooLarge: HttpAnswer = { status: 413, body: { code: 'invalid_parameter', message: `a body has at most ${largestBody} bytes` } }
const mostConnections = 4_096
const serverOptions = {
  requestTimeout: 30_000, headersTimeout: 10_000, maxHeaderSize: 65_536,
  // Longer than Envoy keeps a connection that is idle, which is an hour: a request that meets the end of its connection has no answer,
  // and whoever made it is refused.
  keepAliveTimeout: 3_660_000
} as const

/**
 * Serves HTTP/1.1 until the signal aborts; then running requests end, and no others begin.
 * @throws {SpiffeError} `address_unusable`, also for TCP that is not of the loopback interface without TLS; `socket_in_use`,
 * `file_unusable`
 */
export async function serveHttp (
  address: EndpointAddress, handle: HttpHandler, { log, clock, tls, ready = () => {} }: HttpDeps, signal: AbortSignal
): Promise<void> {
  const { server, refusalOf } = tls === undefined ? { server: createServer(serverOptions), refusalOf: () => undefined } : tlsServer(tls)
  server.on('request', (request, response) => {
    const finish = ({ status, body, contentType = 'application/json', headers = [] }: HttpAnswer) => {
      const text = contentType === 'application/json' ? `${JSON.stringify(body)}\n` : body
      for (const [name, value] of headers) response.appendHeader(name, value)
      // Nobody would end it any more.
      if (signal.aborted) response.shouldKeepAlive = false
      response.writeHead(status, { 'content-type': contentType }).end(text)
    }
    const refusal = refusalOf(request.socket)
    if (refusal !== undefined) {
      response.shouldKeepAlive = false
      finish(refused(refusal))
      return
    }
    readBody(request).then(async body => {
      finish(body === undefined ? tooLarge : await handle(request, body))
    }).catch((error: unknown) => {
      if (request.destroyed && !request.complete) return
      log.error({ err: error, url: request.url }, 'a request failed: this is a bug')
      if (!response.headersSent) finish({ status: 500, body: { code: 'internal_error', message: 'internal error' } })
    })
  })
  server.maxConnections = mostConnections
  if (address.kind === 'tcp' && tls === undefined) checkLoopback(address)
  const release = await listen(server, address)
  const { port } = address.kind === 'unix' ? {} as Partial<AddressInfo> : server.address() as AddressInfo
  ready(address.kind === 'unix' ? `unix://${address.path}` : `tcp://${hostAndPort(address.host, port ?? 0)}`)
  const closed = once(server, 'close')
  const stop = () => {
    release()
    server.close()
    server.closeIdleConnections()
  }
  if (signal.aborted) stop()
  else signal.addEventListener('abort', stop, { once: true })
  await closed

  function tlsServer (options: HttpTls): { server: Server, refusalOf: (socket: object) => SpiffeError | undefined } {
    const secure = createTlsServer({ ...serverOptions, ...mutualTls(options) })
    const callers = new TlsCallers(options, secure, { clock, log })
    const refresh = () => secure.setSecureContext(contextOptions(options.identity(), options))
    options.refreshers.add(refresh)
    secure.once('close', () => options.refreshers.delete(refresh))
    return { server: secure, refusalOf: socket => callers.refusalOf(socket) }
  }
}

/** As OPA's Data API says that somebody may not ask. */
function refused ({ code, message }: SpiffeError): HttpAnswer {
  return { status: 401, body: { code: 'unauthorized', message, errors: [{ code, message }] } }
}

async function listen (server: Server, address: EndpointAddress): Promise<() => void> {
  if (address.kind === 'unix') return claimSocketPath(server, address.path, 0o770, 512)
  try {
    server.listen({ host: address.host, port: address.port })
    await once(server, 'listening')
    return () => {}
  } catch (cause) {
    throw new SpiffeError('address_unusable', `cannot listen on ${address.host}:${address.port}: ${(cause as Error).message}`, { cause })
  }
}

/** `undefined`: too much; the rest is read and thrown away, so that the answer arrives. */
function readBody (request: IncomingMessage): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    request.on('data', (chunk: Buffer) => {
      length += chunk.length
      if (length <= largestBody) chunks.push(chunk)
      else resolve(undefined)
    })
    request.once('end', () => resolve(Buffer.concat(chunks))).once('error', reject)
  })
}

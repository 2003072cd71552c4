import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { claimSocketPath } from '../../rpc/claim-socket-path.ts'
import type { Logger } from '../../runtime/logger.ts'
import type { EndpointAddress } from '../../spiffe/endpoint-address.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { HttpAnswer } from './data-api.ts'

export type HttpHandler = (request: IncomingMessage, body: Buffer) => Promise<HttpAnswer>

const largestBody = 4 * 1_048_576
const tooLarge: HttpAnswer = { status: 413, body: { code: 'invalid_parameter', message: `a body has at most ${largestBody} bytes` } }
const mostConnections = 4_096
const serverOptions = { requestTimeout: 30_000, headersTimeout: 10_000, maxHeaderSize: 65_536 } as const

/**
 * Serves HTTP/1.1 until the signal aborts; then running requests end, and no others begin.
 * @param ready is told where, once it listens
 * @throws {SpiffeError} `address_unusable`, `socket_in_use`, `file_unusable`
 */
export async function serveHttp (
  address: EndpointAddress, handle: HttpHandler, log: Logger, signal: AbortSignal, ready: (where: string) => void = () => {}
): Promise<void> {
  const server = createServer(serverOptions, (request, response) => {
    const finish = ({ status, body, contentType = 'application/json', headers = [] }: HttpAnswer) => {
      const text = contentType === 'application/json' ? `${JSON.stringify(body)}\n` : body
      for (const [name, value] of headers) response.appendHeader(name, value)
      response.writeHead(status, { 'content-type': contentType }).end(text)
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
  const release = await listen(server, address)
  ready(address.kind === 'unix' ? `unix://${address.path}` : `tcp://${address.host}:${(server.address() as AddressInfo).port}`)
  const closed = once(server, 'close')
  const stop = () => {
    release()
    server.close()
    server.closeIdleConnections()
  }
  if (signal.aborted) stop()
  else signal.addEventListener('abort', stop, { once: true })
  await closed
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

import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type ServerOptions } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'

export type Answer = (request: IncomingMessage, response: ServerResponse) => void

/** A partner's endpoint that does whatever a test wants, right or wrong. */
export interface FakePartner extends AsyncDisposable {
  readonly port: number
  /** `https://127.0.0.1:<port>`, without a path. */
  readonly origin: string
  /** What was asked: path and condition. */
  readonly asked: Array<{ readonly url: string, readonly condition: string | undefined }>
  /** How many connections were made. */
  readonly connections: number
  answer: Answer
}

export async function startFakePartner (tls: ServerOptions, answer: Answer): Promise<FakePartner> {
  const sockets = new Set<Duplex>()
  let connections = 0
  const server = createServer({ ...tls, requestTimeout: 0 }, (request, response) => {
    const { url = '', headers: { 'if-none-match': condition } } = request
    partner.asked.push({ url, condition })
    partner.answer(request, response)
  })
  server.on('connection', socket => {
    connections++
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.on('tlsClientError', () => undefined)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const partner = {
    port,
    origin: `https://127.0.0.1:${port}`,
    asked: [] as Array<{ url: string, condition: string | undefined }>,
    get connections () { return connections },
    answer,
    async [Symbol.asyncDispose] () {
      server.close()
      for (const socket of sockets) socket.destroy()
      await once(server, 'close')
    }
  }
  return partner
}

/** Answers with a document. */
export function document (body: string | Uint8Array, headers: Readonly<Record<string, string>> = {}): Answer {
  return (_request, response) => { response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(body) }
}

export function redirect (location: string, status = 302): Answer {
  return (_request, response) => { response.writeHead(status, { location }).end() }
}

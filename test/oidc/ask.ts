import { type IncomingHttpHeaders, request as requestPlain } from 'node:http'
import { request } from 'node:https'
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'

export interface Reply { readonly status: number, readonly headers: IncomingHttpHeaders, readonly text: string }

export interface AskOptions {
  /** Certificates that vouch for the server, PEM; without them there is no TLS. */
  readonly ca?: string | undefined
  readonly port?: number
  readonly socketPath?: string
  readonly host?: string
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** One request on a connection of its own. */
export function ask (path: string, asked: AskOptions): Promise<Reply> {
  const { ca, port, socketPath, host = 'oidc.example.org', method = 'GET', headers = {} } = asked
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  const options = {
    method, path, agent: false as const, headers: { host, ...headers },
    ...socketPath === undefined ? { host: '127.0.0.1', port } : { socketPath }
  }
  const sent = ca === undefined ? requestPlain(options) : request({ ...options, ca, servername: 'oidc.example.org' })
  sent.on('error', reject).on('response', response => {
    let text = ''
    response.setEncoding('utf8').on('data', (part: string) => { text += part }).on('error', reject)
      .on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }))
  })
  sent.end()
  return promise
}

/** Bytes as they are, and all that is answered until the server closes; the client does not close first. */
export function askRaw (bytes: string, { ca, port }: { readonly ca?: string, readonly port: number }): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const socket = ca === undefined
    ? connect({ host: '127.0.0.1', port })
    : connectTls({ host: '127.0.0.1', port, ca, servername: 'oidc.example.org', ALPNProtocols: ['http/1.1'] })
  let text = ''
  socket.setEncoding('latin1').on('data', (part: string) => { text += part })
  socket.on('error', () => resolve(text)).on('close', () => resolve(text))
  socket.write(bytes, 'latin1')
  return promise
}

/** As jose asks: by `fetch`, of a server that only the test's authority vouches for. */
export function fetchBy (options: AskOptions): (url: string, init: { readonly headers?: Headers }) => Promise<Response> {
  return async (url, { headers }) => {
    const { host, pathname } = new URL(url)
    const reply = await ask(pathname, { ...options, host, headers: Object.fromEntries(headers?.entries() ?? []) })
    return new Response(reply.text, { status: reply.status, headers: { 'content-type': reply.headers['content-type'] ?? '' } })
  }
}

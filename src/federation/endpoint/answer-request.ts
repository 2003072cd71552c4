import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Publication } from './published-document.ts'

/**
 * Answers GET and HEAD of the one path with the bundle (FED-17), and everything else with a refusal. Whoever stores it has to ask again
 * before using it: it must be the newest.
 */
export function answerRequest (request: IncomingMessage, response: ServerResponse, path: string, publication: Publication): number {
  const { method = '', url = '', headers } = request
  // A body is nothing that we read; what is left of it must not be taken for another request.
  if (headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined) response.setHeader('connection', 'close')
  response.setHeader('x-content-type-options', 'nosniff')
  if (url.split('?', 1)[0] !== path) return refuse(response, 404)
  if (method !== 'GET' && method !== 'HEAD') return refuse(response, 405, { allow: 'GET, HEAD' })
  const document = publication.current()
  if (document === undefined) return refuse(response, 503, { 'retry-after': '5' })
  const { etag, body } = document
  const known = matches(headers['if-none-match'], etag)
  response.writeHead(known ? 304 : 200, {
    etag, 'cache-control': 'no-cache', ...known ? {} : { 'content-type': 'application/json', 'content-length': body.length }
  })
  response.end(known || method === 'HEAD' ? undefined : body)
  return known ? 304 : 200
}

/** Closes, so that who asks what is not there gives its place to others. */
export function refuse (response: ServerResponse, status: number, headers: Readonly<Record<string, string>> = {}): number {
  response.writeHead(status, { ...headers, 'cache-control': 'no-store', 'content-length': 0, connection: 'close' }).end()
  return status
}

/** By weak comparison (RFC 9110 §13.1.2). */
function matches (condition: string | undefined, etag: string): boolean {
  if (condition === undefined) return false
  return condition.trim() === '*' || condition.split(',').some(given => given.trim().replace(/^W\//, '') === etag)
}

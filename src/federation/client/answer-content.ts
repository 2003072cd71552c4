import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { FetchLimits } from './fetch-limits.ts'
import { tooLarge } from './read-fetched.ts'

/**
 * JSON, a JWS, or what a plain file server says of a file that it does not know: `application/json` is a SHOULD (FED-17). What says that
 * it is something else, such as a page of a proxy that wants a login, is not read at all.
 */
const plausible = /^(?:application\/(?:[\w.-]+\+)?json|application\/jose|text\/(?:json|plain)|(?:application|binary)\/octet-stream)$/

/** @throws {SpiffeError} `fetched_bundle_malformed`, `fetched_bundle_too_large` */
export function checkContent (headers: IncomingHttpHeaders, { maxBytes }: FetchLimits): void {
  const { 'content-type': type = 'application/json', 'content-encoding': encoding = 'identity', 'content-length': length } = headers
  const kind = type.split(';', 1)[0]!.trim().toLowerCase()
  if (!plausible.test(kind)) throw malformed(`it is of type ${JSON.stringify(kind.slice(0, 100))}`)
  if (encoding.toLowerCase() !== 'identity') throw malformed(`it is packed, as ${JSON.stringify(encoding.slice(0, 100))}`)
  if (Number(length) > maxBytes) throw tooLarge(`${length} bytes, and at most ${maxBytes} are read`)
}

/**
 * Holds no more than the limit.
 * @throws {SpiffeError} `fetched_bundle_too_large`; the signal's reason when it aborts
 */
export function readDocument (
  response: IncomingMessage, socket: TLSSocket, { maxBytes }: FetchLimits, signal: AbortSignal
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = []
    let bytes = 0
    const fail = (reason: unknown) => {
      parts.length = 0
      socket.destroy()
      reject(reason)
    }
    const stop = () => fail(signal.reason)
    if (signal.aborted) return stop()
    signal.addEventListener('abort', stop)
    response.on('data', (part: Uint8Array) => {
      bytes += part.length
      if (bytes > maxBytes) fail(tooLarge(`more than ${maxBytes} bytes`))
      else parts.push(part)
    }).on('error', fail).once('close', () => {
      signal.removeEventListener('abort', stop)
      if (response.complete) resolve(Buffer.concat(parts))
      else reject(new SpiffeError('bundle_endpoint_unreachable', 'the connection was closed before the whole document had come'))
    })
  })
}

function malformed (rule: string): SpiffeError { return new SpiffeError('fetched_bundle_malformed', rule, { requirement: 'FED-17' }) }

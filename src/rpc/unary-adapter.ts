import { constants, performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { Caller } from './call.ts'
import type { Connections, Identified } from './connections.ts'
import type { GrpcAdapter } from './grpc-adapter.ts'
import type { RpcLimits } from './limits.ts'
import { detailsKey, statusCodes, toStatus } from './status.ts'

/** A unary method on bytes: what is asked thousands of times a second and answered from memory. */
export interface UnaryMethod {
  /** `/package.Service/Method`. */
  readonly path: string
  /**
   * @param bytes the message; a view that is gone after the call
   * @param metadata of the call, by name in lower case
   * @param call its signal aborts, with `deadline_exceeded` or `cancelled`, when nobody waits for the answer any more
   * @returns the answer's message
   * @throws {SpiffeError} the call's status
   */
  handle (
    bytes: Uint8Array, caller: Caller, metadata: Readonly<Record<string, unknown>>, call: RunningCall
  ): Uint8Array | Promise<Uint8Array>
}

export interface RunningCall { readonly signal: AbortSignal }

export interface UnaryDeps {
  readonly connections: Connections
  readonly log: Logger
  readonly clock: Pick<Clock, 'sleep'>
  readonly nextRequestId: () => string
  readonly running: Set<Promise<void>>
}

const { HTTP2_HEADER_PATH, HTTP2_HEADER_METHOD, HTTP2_HEADER_CONTENT_TYPE, NGHTTP2_CANCEL } = constants
const head = { ':status': 200, 'content-type': 'application/grpc' } as const
const trailers = { 'grpc-status': '0' } as const
const prefixLength = 5

/**
 * gRPC's unary calls on Node's own HTTP/2, for a fifth of what a call costs a full gRPC library: no streams and no compression. A
 * deadline is looked at where the answer is not there at once.
 */
export function openUnaryAdapter (methods: readonly UnaryMethod[], deps: UnaryDeps, limits: RpcLimits): GrpcAdapter {
  const byPath = new Map(methods.map(method => [method.path, method]))
  const sessions = new Set<ServerHttp2Session>()
  return {
    inject (socket) {
      const identified = deps.connections.find((socket as { remoteAddress?: string }).remoteAddress ?? '')
      const session = performServerHandshake(socket, {
        settings: { maxConcurrentStreams: limits.maxStreamsPerConnection, enablePush: false }
      })
      sessions.add(session)
      session.once('close', () => sessions.delete(session))
      session.on('error', error => deps.log.debug({ reason: error.message }, 'connection failed'))
      session.on('stream', (stream, headers) => new Call(stream, deps, limits, identified).start(headers, byPath))
    },
    drain: () => { for (const session of sessions) session.close() },
    destroy: () => { for (const session of sessions) session.destroy() }
  }
}

class Call implements RunningCall {
  readonly #stream: ServerHttp2Stream
  readonly #deps: UnaryDeps
  readonly #limits: RpcLimits
  readonly #identified: Identified | undefined
  #first: Buffer | undefined
  #more: Buffer[] | undefined
  #length = 0
  #life: AbortController | undefined
  #isAnswered = false

  constructor (stream: ServerHttp2Stream, deps: UnaryDeps, limits: RpcLimits, identified: Identified | undefined) {
    this.#stream = stream
    this.#deps = deps
    this.#limits = limits
    this.#identified = identified
  }

  /** Made when somebody wants it: most calls are over before. */
  get signal (): AbortSignal {
    if (this.#life === undefined) {
      const life = this.#life = new AbortController()
      this.#stream.once('close', () => life.abort(new SpiffeError('cancelled', 'the caller waits no more')))
    }
    return this.#life.signal
  }

  start (headers: Readonly<Record<string, unknown>>, byPath: ReadonlyMap<string, UnaryMethod>): void {
    const stream = this.#stream
    stream.on('error', error => this.#deps.log.debug({ reason: error.message }, 'call failed'))
    const path = headers[HTTP2_HEADER_PATH]
    if (headers[HTTP2_HEADER_METHOD] !== 'POST' || !String(headers[HTTP2_HEADER_CONTENT_TYPE]).startsWith('application/grpc')) {
      stream.respond({ ':status': 415 }, { endStream: true })
      return
    }
    const method = typeof path === 'string' ? byPath.get(path) : undefined
    if (method === undefined) return this.#fail(new SpiffeError('not_implemented', `${String(path)} is not offered here`))
    if (this.#identified === undefined || 'refusal' in this.#identified) {
      return this.#fail(this.#identified?.refusal ?? new SpiffeError('cancelled', 'the connection has ended'))
    }
    const { caller } = this.#identified
    stream.on('data', (chunk: Buffer) => this.#take(chunk))
    stream.once('end', () => this.#answer(method, caller, headers))
  }

  #take (chunk: Buffer): void {
    this.#length += chunk.length
    if (this.#length > this.#limits.maxMessageBytes + prefixLength) {
      this.#stream.removeAllListeners('data').removeAllListeners('end').resume()
      return this.#fail(new SpiffeError('message_too_large', `the message is longer than ${this.#limits.maxMessageBytes} bytes`))
    }
    if (this.#first === undefined) this.#first = chunk
    else (this.#more ??= [this.#first]).push(chunk)
  }

  #answer (method: UnaryMethod, caller: Caller, headers: Readonly<Record<string, unknown>>): void {
    try {
      const answer = method.handle(this.#message(), caller, headers, this)
      if (!(answer instanceof Promise)) return this.#succeed(answer)
      const over = new AbortController()
      const running = answer.then(bytes => this.#succeed(bytes), (error: unknown) => this.#fail(error))
        .finally(() => { over.abort(); this.#deps.running.delete(running) })
      this.#deps.running.add(running)
      this.#limit(headers['grpc-timeout'], over.signal)
    } catch (error) {
      this.#fail(error)
    }
  }

  #limit (timeout: unknown, signal: AbortSignal): void {
    if (timeout === undefined) return
    const timeoutMs = parseGrpcTimeout(timeout)
    if (timeoutMs === undefined) return this.#fail(new SpiffeError('message_malformed', `${JSON.stringify(timeout)} is no grpc-timeout`))
    this.#deps.clock.sleep(timeoutMs, signal).then(() => {
      const error = new SpiffeError('deadline_exceeded', `no answer within the call's ${timeoutMs} ms`)
      this.#fail(error)
      this.#life?.abort(error)
    }, () => undefined)
  }

  #message (): Uint8Array {
    const frame = this.#more === undefined ? this.#first : Buffer.concat(this.#more)
    if (frame === undefined || frame.length < prefixLength || frame.readUInt32BE(1) !== frame.length - prefixLength) {
      throw new SpiffeError('message_malformed', 'the call has not exactly one message')
    }
    if (frame[0] !== 0) throw new SpiffeError('message_malformed', 'the message is compressed, which was not offered')
    return frame.subarray(prefixLength)
  }

  #succeed (bytes: Uint8Array): void {
    const stream = this.#stream
    if (this.#isAnswered || stream.destroyed || stream.closed) return
    this.#isAnswered = true
    const frame = Buffer.allocUnsafe(prefixLength + bytes.length)
    frame[0] = 0
    frame.writeUInt32BE(bytes.length, 1)
    frame.set(bytes, prefixLength)
    stream.respond(head, { waitForTrailers: true })
    stream.once('wantTrailers', () => stream.sendTrailers(trailers))
    stream.end(frame)
  }

  /** A status without a message is one block of headers. */
  #fail (error: unknown): void {
    if (this.#isAnswered) return
    this.#isAnswered = true
    const requestId = this.#deps.nextRequestId()
    const { status, message, details } = toStatus(error, requestId)
    if (error instanceof SpiffeError) this.#deps.log.debug({ requestId, code: error.code, reason: error.message }, 'call')
    else this.#deps.log.error({ requestId, err: error }, 'call failed: this is a bug')
    const stream = this.#stream
    if (stream.destroyed || stream.closed) return
    if (stream.headersSent) return stream.close(NGHTTP2_CANCEL)
    stream.respond({
      ...head, 'grpc-status': String(statusCodes[status]), 'grpc-message': encodeURI(message),
      ...details === undefined ? {} : { [detailsKey]: Buffer.from(details).toString('base64') }
    }, { endStream: true })
  }
}

const unitsMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 }

/** Milliseconds; `undefined` for what gRPC does not write so. */
function parseGrpcTimeout (text: unknown): number | undefined {
  const [, digits, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(String(text)) ?? []
  return digits === undefined ? undefined : Number(digits) * (unitsMs[unit] ?? 0)
}

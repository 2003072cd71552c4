import {
  Metadata, type CallOptions as GrpcCallOptions, type Client, type ClientDuplexStream, type ClientReadableStream, type ServiceError
} from '@grpc/grpc-js'
import { systemClock } from '../runtime/clock.ts'
import type { SpiffeError } from '../spiffe/errors.ts'
import { decodeMessage } from '../wire/decode-message.ts'
import { encodeMessage } from '../wire/encode-message.ts'
import type { AnyMethod, MethodKind } from '../wire/service.ts'
import { toRpcError } from './grpc-status.ts'
import { RpcError } from './rpc-error.ts'

export interface CallOptions {
  /** Cancels the call; it then fails with the signal's reason. */
  readonly signal?: AbortSignal | undefined
  /** From now to the last answer; then it fails with DEADLINE_EXCEEDED. */
  readonly timeoutMs?: number | undefined
  readonly metadata?: Readonly<Record<string, string>> | undefined
}

export interface CallTarget {
  readonly client: Client
  readonly path: string
  readonly method: AnyMethod
  /** Aborts when the channel is closed. */
  readonly closed: AbortSignal
  /** Why the channel last refused its server. */
  readonly refusal: () => SpiffeError | undefined
}

type Answers = AsyncGenerator<unknown, void, undefined>
type Cancellable = { cancel (): void }
type AnyCall = (input: unknown, options?: CallOptions) => unknown

/** The function behind one method of a client. */
export function callMethod (target: CallTarget): AnyCall {
  const calls: Record<MethodKind, AnyCall> = {
    unary: (request, options) => callUnary(target, request, options),
    serverStream: (request, options) => callServerStream(target, request, options),
    clientStream: (requests, options) => callClientStream(target, requests as AsyncIterable<unknown>, options),
    bidi: (requests, options) => callBidi(target, requests as AsyncIterable<unknown>, options)
  }
  return calls[target.method.kind]
}

function callUnary (target: CallTarget, request: unknown, options: CallOptions = {}): Promise<unknown> {
  return new Promise((resolve, reject) => {
    options.signal?.throwIfAborted()
    const answered = answeredOnce(target, options, resolve, reject, () => release())
    const call = target.client.makeUnaryRequest(
      target.path, serialize(target), asIs, request, metadataOf(options), grpcOptions(options), answered)
    const release = cancelWith(call, target, options)
  })
}

async function * callServerStream (target: CallTarget, request: unknown, options: CallOptions = {}): Answers {
  options.signal?.throwIfAborted()
  const call = target.client.makeServerStreamRequest(
    target.path, serialize(target), asIs, request, metadataOf(options), grpcOptions(options))
  yield * answersOf(call, target, options)
}

function callClientStream (target: CallTarget, requests: AsyncIterable<unknown>, options: CallOptions = {}): Promise<unknown> {
  return new Promise((resolve, reject) => {
    options.signal?.throwIfAborted()
    const answered = answeredOnce(target, options, resolve, reject, () => release())
    const call = target.client.makeClientStreamRequest(
      target.path, serialize(target), asIs, metadataOf(options), grpcOptions(options), answered)
    const release = cancelWith(call, target, options)
    sendAll(call, requests).catch(error => { call.cancel(); reject(error as Error) })
  })
}

async function * callBidi (target: CallTarget, requests: AsyncIterable<unknown>, options: CallOptions = {}): Answers {
  options.signal?.throwIfAborted()
  const call = target.client.makeBidiStreamRequest(target.path, serialize(target), asIs, metadataOf(options), grpcOptions(options))
  let failure: { readonly error: unknown } | undefined
  const iterator = requests[Symbol.asyncIterator]()
  sendAll(call as unknown as Sink, { [Symbol.asyncIterator]: () => iterator }).catch(error => {
    failure = { error }
    call.cancel()
  })
  try {
    yield * answersOf(call, target, options)
  } catch (error) {
    throw failure === undefined ? error : failure.error
  } finally {
    // Not awaited: the source of requests may be waiting for something that will not come.
    void iterator.return?.().then(undefined, () => undefined)
  }
}

async function * answersOf (
  call: ClientReadableStream<Buffer> | ClientDuplexStream<unknown, Buffer>, target: CallTarget, options: CallOptions
): Answers {
  const release = cancelWith(call, target, options)
  // grpc-js reports some failures after the last reader has gone.
  call.on('error', () => undefined)
  try {
    for await (const bytes of call) yield decodeMessage(target.method.response, bytes as Uint8Array)
  } catch (error) {
    throw isServiceError(error) ? failureOf(error, target, options) : error
  } finally {
    release()
    call.cancel()
  }
}

interface Sink {
  write (request: unknown, done: (error?: Error | null) => void): boolean
  end (): void
  readonly destroyed: boolean
}

/** One request at a time: the source is not read ahead of the wire. A call that ended takes no more. */
async function sendAll (call: Sink, requests: AsyncIterable<unknown>): Promise<void> {
  for await (const request of requests) {
    if (call.destroyed) return
    // An error here is the end of the call, which the reading side reports.
    await new Promise<void>(resolve => call.write(request, () => resolve()))
  }
  call.end()
}

function serialize ({ method }: CallTarget): (request: unknown) => Buffer {
  return request => {
    const bytes = encodeMessage(method.request, request)
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }
}

function asIs (bytes: Buffer): Buffer { return bytes }

function metadataOf ({ metadata = {} }: CallOptions): Metadata {
  const result = new Metadata()
  for (const [key, value] of Object.entries(metadata)) result.set(key, value)
  return result
}

function grpcOptions ({ timeoutMs }: CallOptions): GrpcCallOptions {
  // grpc-js lives in real time.
  return timeoutMs === undefined ? {} : { deadline: new Date(systemClock.now().getTime() + timeoutMs) }
}

function cancelWith (call: Cancellable, { closed }: CallTarget, { signal }: CallOptions): () => void {
  const cancel = () => call.cancel()
  const signals = signal === undefined ? [closed] : [closed, signal]
  for (const signal of signals) signal.addEventListener('abort', cancel, { once: true })
  if (signals.some(signal => signal.aborted)) cancel()
  return () => { for (const signal of signals) signal.removeEventListener('abort', cancel) }
}

function failureOf (error: ServiceError, { path, refusal }: CallTarget, { signal }: CallOptions): unknown {
  if (signal?.aborted === true) return signal.reason
  const failure = toRpcError(error, path)
  const refused = failure.status === 'UNAVAILABLE' ? refusal() : undefined
  if (refused === undefined) return failure
  return new RpcError('UNAVAILABLE', `the server was refused: ${refused.message}`, { method: path, code: refused.code, cause: refused })
}

function isServiceError (error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error
}

/** What grpc-js calls with the one answer of a call. */
function answeredOnce (
  target: CallTarget, options: CallOptions, resolve: (answer: unknown) => void, reject: (error: unknown) => void, release: () => void
): (error: ServiceError | null, bytes?: Buffer) => void {
  return (error, bytes) => {
    release()
    if (error !== null) return reject(failureOf(error, target, options))
    try {
      resolve(decodeMessage(target.method.response, bytes as Uint8Array))
    } catch (error) {
      reject(error)
    }
  }
}

import type { EventEmitter } from 'node:events'
import { type Metadata, type sendUnaryData, type ServerDuplexStream, type ServerUnaryCall, type ServerWritableStream } from '@grpc/grpc-js'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { decodeMessage } from '../wire/decode-message.ts'
import { encodeMessage } from '../wire/encode-message.ts'
import { Encoded } from '../wire/encoded.ts'
import type { AnyMethod } from '../wire/service.ts'
import type { AnyHandler } from './bound-service.ts'
import type { CallContext, Caller } from './call.ts'
import type { Connections } from './connections.ts'
import { toStatusObject } from './grpc-status.ts'
import { RpcError, type RpcStatusName } from './rpc-error.ts'
import { isPassedOn, toStatus } from './status.ts'

/** What all calls of one server share. */
export interface ServingDeps {
  readonly connections: Connections
  readonly log: Logger
  readonly clock: Clock
  readonly before: ((context: CallContext) => Promise<void> | void) | undefined
  /** Level of the line that each call leaves. */
  readonly callLevel: 'debug' | 'info'
  /** Told of each call when it has ended. */
  readonly onEnded: ((call: EndedCall) => void) | undefined
  /** Aborts streams at once when the server stops. */
  readonly stopping: AbortSignal
  /** Aborts whatever is left when the time to end has passed. */
  readonly stopped: AbortSignal
  readonly nextRequestId: () => string
  readonly running: Set<Promise<void>>
}

export interface ServedMethod {
  readonly path: string
  readonly method: AnyMethod
  readonly handler: AnyHandler | undefined
}

type Outgoing = ServerWritableStream<Uint8Array, Uint8Array> | ServerDuplexStream<Uint8Array, Uint8Array>
type AnyCall = ServerUnaryCall<Uint8Array, Uint8Array> | Outgoing

/** The function that grpc-js calls for each call of a method; never throws. */
export function serveMethod (served: ServedMethod, deps: ServingDeps): (call: AnyCall, respond?: sendUnaryData<Uint8Array>) => void {
  return (call, respond) => {
    const running = serveCall(served, deps, call, respond).finally(() => deps.running.delete(running))
    deps.running.add(running)
  }
}

async function serveCall (served: ServedMethod, deps: ServingDeps, call: AnyCall, respond?: sendUnaryData<Uint8Array>): Promise<void> {
  const { method } = served
  const requestId = deps.nextRequestId()
  const startedMs = deps.clock.monotonicMs()
  const { signal, release } = signalOf(call, deps, method.kind)
  let caller: Caller | undefined
  let context: CallContext | undefined
  let failed = false
  let failure: unknown
  try {
    caller = callerOf(call, deps.connections)
    let decoded: unknown
    const hasOne = method.kind === 'unary' || method.kind === 'serverStream'
    const request = () => hasOne
      ? decoded ??= decodeMessage(method.request, (call as ServerUnaryCall<Uint8Array, Uint8Array>).request)
      : undefined
    context = new ServedCall({ method: served.path, requestId, caller, signal, request }, call.metadata, deps.log)
    await orAbort(Promise.resolve(deps.before?.(context)), signal)
    if (served.handler === undefined) throw new SpiffeError('not_implemented', `${served.path} is not offered here`)
    signal.throwIfAborted()
    const input = hasOne
      ? request()
      : requestsOf(call as ServerDuplexStream<Uint8Array, Uint8Array>, method, signal)
    const result = served.handler(input as never, context)
    if (method.kind === 'unary' || method.kind === 'clientStream') {
      const bytes = toBytes(method, await orAbort(result as Promise<unknown>, signal))
      respond?.(null, bytes)
    } else {
      await writeAll(call as Outgoing, method, result as AsyncIterable<unknown>, signal)
      ;(call as Outgoing).end()
    }
  } catch (error) {
    failed = true
    failure = error
    fail(error, requestId, call, respond)
  } finally {
    release()
  }
  const durationMs = deps.clock.monotonicMs() - startedMs
  report(deps, { method: served.path, requestId, caller, failed, error: failure, durationMs })
  const isStream = method.kind === 'serverStream' || method.kind === 'bidi'
  deps.onEnded?.({
    method: served.path, isStream, requestId, caller, context, durationMs, ...failed ? outcomeOf(failure) : { status: 'OK' }
  })
}

/** A call that has ended, for those who keep books of them. */
export interface EndedCall {
  /** `/package.Service/Method`. */
  readonly method: string
  /** Whether it has an answer after the other, and may last as long as the caller likes. */
  readonly isStream: boolean
  readonly requestId: string
  /** `undefined` for who was refused before it was known. */
  readonly caller: Caller | undefined
  /** The one its handler had. */
  readonly context: CallContext | undefined
  /** `OK`, `PERMISSION_DENIED`, … */
  readonly status: RpcStatusName | 'OK'
  /** Of a refusal. */
  readonly reason?: string
  readonly durationMs: number
}

function outcomeOf (error: unknown): Pick<EndedCall, 'status' | 'reason'> {
  if (error instanceof SpiffeError) return { status: error.row.status, reason: error.message }
  return error instanceof RpcError && isPassedOn(error) ? { status: 'UNAVAILABLE', reason: error.message } : { status: 'INTERNAL' }
}

interface ServedOutcome extends Pick<EndedCall, 'method' | 'requestId' | 'caller' | 'durationMs'> {
  readonly failed: boolean
  readonly error: unknown
}

class ServedCall implements CallContext {
  readonly method: string
  readonly requestId: string
  readonly caller: Caller
  readonly signal: AbortSignal
  readonly request: () => unknown
  readonly #metadata: Metadata
  readonly #log: Logger
  #child: Logger | undefined

  constructor (
    { method, requestId, caller, signal, request }: Omit<Required<CallContext>, 'metadata' | 'log'>, metadata: Metadata, log: Logger
  ) {
    this.method = method
    this.requestId = requestId
    this.caller = caller
    this.signal = signal
    this.request = request
    this.#metadata = metadata
    this.#log = log
  }

  /** Made when first asked for: most calls log nothing of their own. */
  get log (): Logger {
    return this.#child ??= this.#log.child({ method: this.method, requestId: this.requestId, caller: describe(this.caller) })
  }

  get metadata (): ReadonlyMap<string, readonly string[]> {
    return new Map(Object.keys(this.#metadata.getMap()).map(key =>
      [key, this.#metadata.get(key).filter(value => typeof value === 'string')]))
  }
}

function callerOf (call: AnyCall, connections: Connections): Caller {
  const identified = connections.find(call.getPeer())
  if (identified === undefined) throw new SpiffeError('cancelled', 'the connection has ended')
  if ('refusal' in identified) throw identified.refusal
  return identified.caller
}

/** The call's own signal: cancel, deadline and lost connection are one event in grpc-js. */
function signalOf (call: AnyCall, deps: ServingDeps, kind: AnyMethod['kind']): { signal: AbortSignal, release: () => void } {
  const own = new AbortController()
  const onCancelled = () => own.abort(pastDeadline(call, deps.clock)
    ? new SpiffeError('deadline_exceeded', 'the deadline of the call passed')
    : new SpiffeError('cancelled', 'the caller cancelled the call or went away'))
  // Streams may last for ever and so end at once; a single answer gets the time it needs.
  const stop = kind === 'unary' || kind === 'clientStream' ? deps.stopped : deps.stopping
  const onStop = () => own.abort(stop.reason)
  const events: EventEmitter = call
  events.once('cancelled', onCancelled)
  if (stop.aborted) onStop()
  else stop.addEventListener('abort', onStop, { once: true })
  if (call.cancelled) onCancelled()
  return {
    signal: own.signal,
    release () {
      events.off('cancelled', onCancelled)
      stop.removeEventListener('abort', onStop)
    }
  }
}

function pastDeadline (call: AnyCall, clock: Clock): boolean {
  const deadline = call.getDeadline()
  return deadline !== Infinity && Number(deadline) <= clock.now().getTime()
}

async function * requestsOf (
  call: ServerDuplexStream<Uint8Array, Uint8Array>, method: AnyMethod, signal: AbortSignal
): AsyncGenerator<unknown, void, undefined> {
  try {
    // A handler that stops reading may still answer: leaving the loop must not destroy the stream.
    for await (const bytes of call.iterator({ destroyOnReturn: false })) yield decodeMessage(method.request, bytes as Uint8Array)
  } catch (error) {
    signal.throwIfAborted()
    throw error
  }
}

/** Takes the next answer only when the one before has left for the kernel: a slow reader is not written ahead of. */
async function writeAll (call: Outgoing, method: AnyMethod, answers: AsyncIterable<unknown>, signal: AbortSignal): Promise<void> {
  const iterator = answers[Symbol.asyncIterator]()
  let ended = false
  try {
    for (;;) {
      const next = await orAbort(iterator.next(), signal)
      if (next.done === true) {
        ended = true
        return
      }
      const bytes = toBytes(method, next.value)
      await orAbort(new Promise<void>((resolve, reject) => {
        call.write(bytes, (error?: Error | null) => error === undefined || error === null ? resolve() : reject(error))
      }), signal)
    }
  } finally {
    // Not awaited: the handler is told by its signal, and may be stuck in a wait of its own.
    if (!ended) void iterator.return?.().then(undefined, () => undefined)
  }
}

function toBytes (method: AnyMethod, answer: unknown): Uint8Array {
  return answer instanceof Encoded ? answer.bytes : encodeMessage(method.response, answer)
}

/** The promise's result, or the signal's reason if that comes first. */
function orAbort<T> (promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      promise.catch(() => undefined)
      return reject(signal.reason)
    }
    const stop = () => reject(signal.reason)
    signal.addEventListener('abort', stop)
    promise.then(value => {
      signal.removeEventListener('abort', stop)
      resolve(value)
    }, error => {
      signal.removeEventListener('abort', stop)
      reject(error)
    })
  })
}

function fail (error: unknown, requestId: string, call: AnyCall, respond: sendUnaryData<Uint8Array> | undefined): void {
  const status = toStatusObject(toStatus(error, requestId))
  if (respond !== undefined) respond(status)
  else if (!call.cancelled) call.emit('error', Object.assign(new Error(status.details), status))
}

/** One line per call, of which one may make an audit log. */
function report ({ log, callLevel }: ServingDeps, ended: ServedOutcome): void {
  if (!ended.failed && !log.isLevelEnabled(callLevel)) return
  const { method, requestId, caller, durationMs } = ended
  const who = caller === undefined ? undefined : describe(caller)
  const facts = { method, requestId, caller: who, durationMs: Math.round(durationMs * 1000) / 1000 }
  if (!ended.failed) {
    log[callLevel]({ ...facts, status: 'OK' }, 'call')
  } else if (ended.error instanceof SpiffeError) {
    const { code, message, row, details, cause } = ended.error
    const refusal = { status: row.status, code, reason: message, details, cause: cause instanceof Error ? cause.message : undefined }
    log[callLevel]({ ...facts, ...refusal }, 'call')
  } else if (ended.error instanceof RpcError && isPassedOn(ended.error)) {
    log[callLevel]({ ...facts, status: ended.error.status, reason: ended.error.message, upstream: ended.error.method }, 'call')
  } else {
    log.error({ ...facts, status: 'INTERNAL', err: ended.error }, 'call failed: this is a bug')
  }
}

/** For logs: enough to find the caller, nothing secret. */
function describe (caller: Caller): Readonly<Record<string, unknown>> {
  return caller.kind === 'unix'
    ? { connection: caller.connection, pid: caller.peer.pid, uid: caller.peer.uid, gid: caller.peer.gid }
    : { connection: caller.connection, address: caller.address, spiffeId: caller.svid?.id }
}

import { errorCatalogue, type ErrorCode, type StatusName } from '../spiffe/errors.ts'
import { decodeMessage } from '../wire/decode-message.ts'
import { ErrorInfo, RetryInfo } from '../wire/generated/google-rpc.ts'
import type { Any } from '../wire/generated/well-known.ts'
import type { MessageType } from '../wire/message-type.ts'

/** Any gRPC status but OK; ours never send the last three. */
export type RpcStatusName = StatusName | 'UNKNOWN' | 'OUT_OF_RANGE' | 'DATA_LOSS'

/** What a client sees of a call that was refused or failed. */
export class RpcError extends Error {
  readonly status: RpcStatusName
  /** Of our catalogue, when the other side is ours and said so. */
  readonly code: ErrorCode | undefined
  /** The details of google.rpc.Status. */
  readonly details: readonly Any[]
  /** `/package.Service/Method`. */
  readonly method: string

  constructor (status: RpcStatusName, message: string, options: {
    method: string, code?: ErrorCode | undefined, details?: readonly Any[], cause?: unknown
  }) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'RpcError'
    this.status = status
    this.method = options.method
    this.details = options.details ?? []
    this.code = options.code ?? codeIn(this.details)
  }

  /** The first detail of a message type, e.g. `PermissionDeniedDetails`. */
  detail<T, Init> (type: MessageType<T, Init>): T | undefined {
    return findDetail(this.details, type)
  }
}

/**
 * After how many milliseconds the server wants to be asked again, if it said so in a sensible way. What it says never makes a client wait
 * for longer than `atMostMs`.
 */
export function retryAfterMsOf (error: unknown, atMostMs: number): number | undefined {
  const delay = error instanceof RpcError ? error.detail(RetryInfo)?.retryDelay : undefined
  if (delay === undefined) return undefined
  const ms = Number(delay.seconds) * 1000 + delay.nanos / 1e6
  return ms >= 0 ? Math.min(ms, atMostMs) : undefined
}

function codeIn (details: readonly Any[]): ErrorCode | undefined {
  const info = findDetail(details, ErrorInfo)
  // Where the standard has a reason of its own, ours is among the facts beside it.
  const code = info?.domain === 'assay' ? info.reason : info?.domain === 'spiffe.io' ? info.metadata['code'] : undefined
  return code !== undefined && Object.hasOwn(errorCatalogue, code) ? code as ErrorCode : undefined
}

function findDetail<T, Init> (details: readonly Any[], type: MessageType<T, Init>): T | undefined {
  const found = details.find(detail => detail.typeUrl.slice(detail.typeUrl.lastIndexOf('/') + 1) === type.name)
  try {
    return found === undefined ? undefined : decodeMessage(type, found.value)
  } catch {
    return undefined
  }
}

import { SpiffeError, type ErrorCode } from '../spiffe/errors.ts'
import { encodeMessage } from '../wire/encode-message.ts'
import { ErrorInfo, type ErrorInfoInit, RetryInfo, Status } from '../wire/generated/google-rpc.ts'
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason as reasons } from '../wire/generated/types.ts'
import type { AnyInit } from '../wire/generated/well-known.ts'
import type { MessageType } from '../wire/message-type.ts'
import { RpcError, type RpcStatusName } from './rpc-error.ts'

/** Of a status's details, in trailers. */
export const detailsKey = 'grpc-status-details-bin'
const longestMessage = 4096

/** gRPC's own numbers. A table of ours: what answers without the gRPC library must not load it for sixteen of them. */
export const statusCodes = {
  CANCELLED: 1, UNKNOWN: 2, INVALID_ARGUMENT: 3, DEADLINE_EXCEEDED: 4, NOT_FOUND: 5, ALREADY_EXISTS: 6, PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8, FAILED_PRECONDITION: 9, ABORTED: 10, OUT_OF_RANGE: 11, UNIMPLEMENTED: 12, INTERNAL: 13, UNAVAILABLE: 14,
  DATA_LOSS: 15, UNAUTHENTICATED: 16
} as const satisfies Record<RpcStatusName, number>

/** A status other than OK, as it is sent. */
export interface RpcStatus {
  readonly status: RpcStatusName
  readonly message: string
  /** A `google.rpc.Status`, for `detailsKey`. */
  readonly details: Uint8Array | undefined
}

/** What SPIRE's agents read to know what to do next (`spire-surface.md` §1.1). */
const deniedReasons: Partial<Record<ErrorCode, number>> = {
  agent_expired: reasons.AGENT_EXPIRED,
  agent_not_attested: reasons.AGENT_NOT_ATTESTED,
  agent_not_active: reasons.AGENT_NOT_ACTIVE,
  agent_banned: reasons.AGENT_BANNED,
  agent_must_reattest: reasons.AGENT_MUST_REATTEST
}

/** Reasons that the SPIFFE Broker API names itself (§4.8); our own code goes beside them. */
const standardReasons: Partial<Record<ErrorCode, string>> = {
  workload_reference_invalid: 'WORKLOAD_REFERENCE_INVALID',
  workload_not_found: 'WORKLOAD_NOT_FOUND',
  workload_not_entitled: 'WORKLOAD_NOT_ENTITLED'
}

/**
 * Errors become statuses here and nowhere else on the serving side. A refusal says its code; of anything else the
 * caller learns only the request id, under which the stack was logged.
 */
export function toStatus (error: unknown, requestId: string): RpcStatus {
  if (error instanceof SpiffeError) return refusalStatus(error)
  if (error instanceof RpcError && isPassedOn(error)) {
    return { status: 'UNAVAILABLE', message: wellFormed(error.message), details: undefined }
  }
  return { status: 'INTERNAL', message: `internal error (request ${requestId})`, details: undefined }
}

/** Whether a handler that met this in its own call to another server may let it through: the caller, too, should come back later. */
export function isPassedOn ({ status }: RpcError): boolean {
  return status === 'UNAVAILABLE' || status === 'DEADLINE_EXCEEDED'
}

/** The numeric gRPC code and message of a refusal, for items of a batch (`spire.api.types.Status`). */
export function toItemStatus (error: SpiffeError): { code: number, message: string } {
  return { code: statusCodes[error.row.status], message: error.message }
}

function refusalStatus (error: SpiffeError): RpcStatus {
  const { status } = error.row
  const message = wellFormed(error.message)
  const reason = deniedReasons[error.code]
  const details = [
    ...reason === undefined ? [] : [pack(PermissionDeniedDetails, { reason })],
    pack(ErrorInfo, errorInfo(error)),
    ...error.retryAfterMs === undefined ? [] : [pack(RetryInfo, { retryDelay: toDuration(error.retryAfterMs) })]
  ]
  return { status, message, details: encodeMessage(Status, { code: statusCodes[status], message, details }) }
}

function errorInfo (error: SpiffeError): ErrorInfoInit {
  const standard = standardReasons[error.code]
  const metadata = {
    retry: String(error.row.retry),
    next: error.row.next,
    ...error.requirement === undefined ? {} : { requirement: error.requirement }
  }
  // A status has one ErrorInfo: where the standard says which, our code is one of its facts.
  return standard === undefined
    ? { reason: error.code, domain: 'assay', metadata }
    : { reason: standard, domain: 'spiffe.io', metadata: { ...metadata, code: error.code } }
}

function toDuration (ms: number): { seconds: number, nanos: number } {
  return { seconds: Math.floor(ms / 1000), nanos: Math.round(ms % 1000) * 1_000_000 }
}

function pack<T, Init> (type: MessageType<T, Init>, init: Init): AnyInit {
  return { typeUrl: `type.googleapis.com/${type.name}`, value: encodeMessage(type, init) }
}

/** Headers are limited in size, and percent-encoding throws on lone surrogates. */
function wellFormed (message: string): string {
  return (message.length > longestMessage ? `${message.slice(0, longestMessage)}…` : message).toWellFormed()
}

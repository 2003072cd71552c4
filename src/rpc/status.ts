import { Metadata, status as grpcStatus, type ServiceError, type StatusObject } from '@grpc/grpc-js'
import { SpiffeError, type ErrorCode } from '../spiffe/errors.ts'
import { decodeMessage } from '../wire/decode-message.ts'
import { encodeMessage } from '../wire/encode-message.ts'
import { ErrorInfo, type ErrorInfoInit, RetryInfo, Status } from '../wire/generated/google-rpc.ts'
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason as reasons } from '../wire/generated/types.ts'
import type { Any, AnyInit } from '../wire/generated/well-known.ts'
import type { MessageType } from '../wire/message-type.ts'
import { RpcError, type RpcStatusName } from './rpc-error.ts'

/** Of a status's details, in trailers. */
export const detailsKey = 'grpc-status-details-bin'
const longestMessage = 4096

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
export function toStatus (error: unknown, requestId: string): StatusObject {
  if (error instanceof SpiffeError) return refusalStatus(error)
  if (error instanceof RpcError && isPassedOn(error)) {
    return { code: grpcStatus.UNAVAILABLE, details: wellFormed(error.message), metadata: new Metadata() }
  }
  return { code: grpcStatus.INTERNAL, details: `internal error (request ${requestId})`, metadata: new Metadata() }
}

/** Whether a handler that met this in its own call to another server may let it through: the caller, too, should come back later. */
export function isPassedOn ({ status }: RpcError): boolean {
  return status === 'UNAVAILABLE' || status === 'DEADLINE_EXCEEDED'
}

/** The numeric gRPC code and message of a refusal, for items of a batch (`spire.api.types.Status`). */
export function toItemStatus (error: SpiffeError): { code: number, message: string } {
  return { code: grpcStatus[error.row.status], message: error.message }
}

/** How a failed call looks to our own clients. */
export function toRpcError (error: ServiceError, method: string): RpcError {
  const name = grpcStatus[error.code] as RpcStatusName | undefined
  return new RpcError(name ?? 'UNKNOWN', error.details === '' ? error.message : error.details, {
    method, details: readDetails(error.metadata), cause: error.cause
  })
}

function refusalStatus (error: SpiffeError): StatusObject {
  const code = grpcStatus[error.row.status]
  const message = wellFormed(error.message)
  const reason = deniedReasons[error.code]
  const details = [
    ...reason === undefined ? [] : [pack(PermissionDeniedDetails, { reason })],
    pack(ErrorInfo, errorInfo(error)),
    ...error.retryAfterMs === undefined ? [] : [pack(RetryInfo, { retryDelay: toDuration(error.retryAfterMs) })]
  ]
  const metadata = new Metadata()
  metadata.set(detailsKey, Buffer.from(encodeMessage(Status, { code, message, details })))
  return { code, details: message, metadata }
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

function readDetails (metadata: Metadata | undefined): readonly Any[] {
  const [bytes] = metadata?.get(detailsKey) ?? []
  if (!(bytes instanceof Buffer)) return []
  try {
    return decodeMessage(Status, bytes).details
  } catch {
    return []
  }
}

/** Headers are limited in size, and percent-encoding throws on lone surrogates. */
function wellFormed (message: string): string {
  return (message.length > longestMessage ? `${message.slice(0, longestMessage)}…` : message).toWellFormed()
}

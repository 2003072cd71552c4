import { Metadata, status as grpcStatus, type ServiceError, type StatusObject } from '@grpc/grpc-js'
import { decodeMessage } from '../wire/decode-message.ts'
import { Status } from '../wire/generated/google-rpc.ts'
import type { Any } from '../wire/generated/well-known.ts'
import { RpcError, type RpcStatusName } from './rpc-error.ts'
import { detailsKey, type RpcStatus } from './status.ts'

/** A status in the gRPC library's form. */
export function toStatusObject ({ status, message, details }: RpcStatus): StatusObject {
  const metadata = new Metadata()
  if (details !== undefined) metadata.set(detailsKey, Buffer.from(details))
  return { code: grpcStatus[status], details: message, metadata }
}

/** How a failed call looks to our own clients. */
export function toRpcError (error: ServiceError, method: string): RpcError {
  const name = grpcStatus[error.code] as RpcStatusName | undefined
  return new RpcError(name ?? 'UNKNOWN', error.details === '' ? error.message : error.details, {
    method, details: readDetails(error.metadata), cause: error.cause
  })
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

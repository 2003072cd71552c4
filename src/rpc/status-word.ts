import type { RpcStatusName } from './rpc-error.ts'

/** A status as Go's library writes it, and so SPIRE's logs and metrics do: `PermissionDenied`. */
export function statusWord (status: RpcStatusName | 'OK'): string {
  if (status === 'OK') return 'OK'
  // American there, British in gRPC's own table.
  if (status === 'CANCELLED') return 'Canceled'
  return status.toLowerCase().replaceAll(/(?:^|_)([a-z])/g, (_match, letter: string) => letter.toUpperCase())
}

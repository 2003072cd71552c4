import type { Caller } from '../../rpc/call.ts'

/** Who did something, for records: a SPIFFE ID, or a local user by number. */
export function nameOf (caller: Caller): string {
  return caller.kind === 'unix' ? `local uid ${caller.peer.uid}` : caller.svid?.id ?? caller.address
}

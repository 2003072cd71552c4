import type { WorkloadIdentity } from '../spiffe/svid.ts'
import { type Encoded, encoded } from '../wire/encoded.ts'
import type { MessageType } from '../wire/message-type.ts'

/** A response for a state, encoded when first asked for: a thousand streams of one workload write the same bytes. */
export function encodeOnce<T, Init> (
  type: MessageType<T, Init>, respond: (identity: WorkloadIdentity) => Init
): (identity: WorkloadIdentity) => Encoded<T> {
  const known = new WeakMap<WorkloadIdentity, Encoded<T>>()
  return identity => {
    const response = known.get(identity) ?? encoded(type, respond(identity))
    known.set(identity, response)
    return response
  }
}

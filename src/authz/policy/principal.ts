import { parseSpiffeId, type SpiffeId } from '../../spiffe/spiffe-id.ts'

/** The ID that a principal is; `undefined` where it is no SPIFFE ID, such as a certificate's common name: that is no identity. */
export function idOfPrincipal (principal: string | undefined): SpiffeId | undefined {
  if (principal?.startsWith('spiffe://') !== true) return undefined
  try {
    return parseSpiffeId(principal)
  } catch {
    return undefined
  }
}

import { parseSpiffeId, type SpiffeId } from '../../spiffe/spiffe-id.ts'

/** A caller, as far as a principal tells. */
export interface Caller {
  readonly id?: SpiffeId | undefined
  readonly invalidId?: string | undefined
}

const longestShown = 256

/** Who says to have a SPIFFE ID and shows something that is none is not a caller without a name: see `AuthzRequest`. */
export function callerOf (principal: string | undefined): Caller {
  const id = idOfPrincipal(principal)
  if (id !== undefined || principal === undefined || !/^spiffe:/i.test(principal)) return { id }
  return { id, invalidId: principal.slice(0, longestShown) }
}

/** The ID that a principal is; `undefined` where it is no SPIFFE ID, such as a certificate's common name: that is no identity. */
export function idOfPrincipal (principal: string | undefined): SpiffeId | undefined {
  if (principal?.startsWith('spiffe://') !== true) return undefined
  try {
    return parseSpiffeId(principal)
  } catch {
    return undefined
  }
}

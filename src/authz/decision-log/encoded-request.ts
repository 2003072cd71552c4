import type { AuthzRequest } from '../policy/request.ts'

/** A request in the form in which it came: what is kept of it instead of an object. */
export interface EncodedRequest {
  /** Not for keeps: who wants it later copies it. */
  readonly bytes: Uint8Array
  /** Of these bytes or of a copy. */
  readonly read: ReadEncoded
}

/** @param time when it was decided about */
export type ReadEncoded = (bytes: Uint8Array, time: Date) => { readonly request: AuthzRequest, readonly requestId: string | undefined }

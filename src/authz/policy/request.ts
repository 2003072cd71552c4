import type { SpiffeId } from '../../spiffe/spiffe-id.ts'

/**
 * What is asked: may this peer do this here? `undefined` is a caller's ID that does not exist (it has no certificate); of all else it is
 * what nobody can know here (the path, of bytes that are no HTTP; an address that nobody tells), see `RequestFacts`.
 */
export interface AuthzRequest {
  readonly source: {
    /** As TLS proved it; never from a header. */
    readonly id?: SpiffeId | undefined
    /** What TLS proved, where it begins as a SPIFFE ID does and is none: whose it is nobody can tell, so that he is refused. */
    readonly invalidId?: string | undefined
    /** The other end of the connection; `undefined`: nobody tells. */
    readonly address?: string | undefined
    /** The first caller's, as trusted proxies tell it; `undefined`: `address`. */
    readonly remoteAddress?: string | undefined
  }
  readonly destination: {
    /** The workload asked for; `undefined`: not known here. */
    readonly id?: SpiffeId | undefined
    readonly address?: string | undefined
    readonly port?: number | undefined
  }
  /** `undefined`: bytes whose meaning is not known. */
  readonly http?: HttpFacts | undefined
  /** `undefined`: plain text. What is missing of it nobody knows; `sni` is empty when the caller sent none. */
  readonly tls?: { readonly version?: string | undefined, readonly sni?: string | undefined } | undefined
  readonly time: Date
}

export interface HttpFacts {
  readonly method: string
  /** As it came, with its query. */
  readonly path: string
  /** The authority, with its port if it came with one. */
  readonly host: string
  /** Names in lower case; values that came several times are joined by a comma. */
  readonly headers: ReadonlyMap<string, string>
  /** Claims of a JWT that somebody trusted has verified already. */
  readonly claims?: Readonly<Record<string, unknown>> | undefined
  /** Several tokens were verified: which of them is meant nobody knows, nor what it claims. */
  readonly severalTokens?: boolean | undefined
}

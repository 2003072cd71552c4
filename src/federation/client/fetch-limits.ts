/** What one fetch bears of a partner before it is given up. */
export interface FetchLimits {
  /** Of the document. */
  readonly maxBytes: number
  /** Of the document: each costs up to a millisecond to read, in which nothing else is done. */
  readonly maxKeys: number
  readonly maxRedirects: number
  /** Of an answer's status line and headers. */
  readonly maxHeaderBytes: number
  /** Of each hop: name, connection, TLS, request, up to the last header. */
  readonly headersTimeoutMs: number
  /** Of all hops and the document together. */
  readonly totalTimeoutMs: number
}

export const defaultFetchLimits: FetchLimits = {
  maxBytes: 1_048_576, maxKeys: 256, maxRedirects: 5, maxHeaderBytes: 16_384, headersTimeoutMs: 10_000, totalTimeoutMs: 30_000
}

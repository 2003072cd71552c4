import type { AddressAllowanceOptions } from '../../rpc/address-allowance.ts'

/** What the endpoint bears. Everybody may ask it: it knows nobody. */
export interface EndpointLimits {
  /** Further connections are closed at once. */
  readonly maxConnections: number
  readonly maxConnectionsPerAddress: number
  /** Of connections and of requests, by address: further connections are closed, further requests answered 429. */
  readonly rate: AddressAllowanceOptions
  /** TLS handshakes at a time. */
  readonly maxHandshakes: number
  /** From accept to the client's first word, and of the handshake. */
  readonly handshakeTimeoutMs: number
  readonly headersTimeoutMs: number
  readonly requestTimeoutMs: number
  /** Of a connection between two requests. */
  readonly idleTimeoutMs: number
  /** A client that reads no further for so long is cut off. */
  readonly stalledTimeoutMs: number
  readonly maxRequestsPerConnection: number
  readonly maxHeaderBytes: number
  /** What answers under way get when the endpoint stops. */
  readonly stopGraceMs: number
}

export const defaultEndpointLimits: EndpointLimits = {
  maxConnections: 512,
  maxConnectionsPerAddress: 64,
  rate: { burst: 120, perSecond: 20, most: 10_000 },
  maxHandshakes: 8,
  handshakeTimeoutMs: 10_000,
  headersTimeoutMs: 5_000,
  requestTimeoutMs: 10_000,
  idleTimeoutMs: 10_000,
  stalledTimeoutMs: 15_000,
  maxRequestsPerConnection: 100,
  maxHeaderBytes: 8_192,
  stopGraceMs: 5_000
}

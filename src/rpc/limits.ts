/** What one listener bears before it refuses. */
export interface RpcLimits {
  /** Of one request; larger ones are answered RESOURCE_EXHAUSTED. */
  readonly maxMessageBytes: number
  readonly maxStreamsPerConnection: number
  /** Further connections are closed at once. */
  readonly maxConnections: number
  /** TLS over the network: of one IPv4 address, or of one /64 of IPv6, so that nobody locks others out. */
  readonly maxConnectionsPerNetwork: number
  /** Unix sockets: of one user, or of one control group of root and our own user that is not ours, so that nobody locks others out. */
  readonly maxConnectionsPerUser: number
  /** TLS: from accept to the client's first word, and from when its turn came to the end of the handshake. */
  readonly handshakeTimeoutMs: number
  /** TLS: handshakes at a time; further connections wait for their turn. */
  readonly maxHandshakes: number
  /** TLS: of those, of one IPv4 address or one /64 of IPv6, however many wait there. */
  readonly maxHandshakesPerNetwork: number
  /** TLS: a handshake that takes longer waits for its client, and does not count any more. */
  readonly handshakeSlotMs: number
  /** TLS: after this the client is told to reconnect; its running calls go on. */
  readonly connectionAgeMs: number
  /** TLS: what calls that still run at that age get before the connection is cut; undefined: all the time they want. */
  readonly connectionAgeGraceMs: number | undefined
  /** TLS: silence after which the client is asked whether it still lives. */
  readonly keepaliveMs: number
  readonly keepaliveTimeoutMs: number
  /** What calls get to end by themselves when the server closes. */
  readonly stopGraceMs: number
}

export const defaultLimits: RpcLimits = {
  maxMessageBytes: 4 * 1024 * 1024,
  maxStreamsPerConnection: 1000,
  maxConnections: 16_384,
  maxConnectionsPerNetwork: 12_288,
  maxConnectionsPerUser: 8192,
  handshakeTimeoutMs: 10_000,
  maxHandshakes: 32,
  maxHandshakesPerNetwork: 24,
  handshakeSlotMs: 500,
  connectionAgeMs: 180_000,
  connectionAgeGraceMs: undefined,
  keepaliveMs: 60_000,
  keepaliveTimeoutMs: 20_000,
  stopGraceMs: 10_000
}

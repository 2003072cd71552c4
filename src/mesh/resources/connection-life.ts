import type { HttpProtocolOptionsInit } from '../../wire/generated/envoy-core.ts'
import type { TcpProxyInit } from '../../wire/generated/envoy-tcp-proxy.ts'
import { duration } from './any.ts'

/** Connections that began together, as after a restart, must not begin again together: lives differ by so much of the longest. */
const spread = 0.2
/** Envoy adds it to what is the shortest life, in percent of that. */
const jitter = { value: spread / (1 - spread) * 100 }

/** A connection of HTTP is let go, at the latest cut, within so many seconds, and not before four fifths of them. */
export function httpLife (seconds: number): HttpProtocolOptionsInit {
  return { maxConnectionDuration: duration(seconds * (1 - spread)), maxConnectionDurationJitter: jitter }
}

/** A connection whose bytes are only passed on is cut within so many seconds, and not before four fifths of them. */
export function tcpLife (seconds: number): TcpProxyInit {
  return { maxDownstreamConnectionDuration: duration(seconds * (1 - spread)), maxDownstreamConnectionDurationJitterPercentage: jitter }
}

import type { Socket } from 'node:net'

export type Ends = Pick<Socket, 'remoteAddress' | 'remotePort' | 'localAddress'>

/**
 * Names a connection at one listener. Wrapped in TLS a socket is another object: what is the same are the ends of its connection. Those of
 * Unix sockets have no names.
 */
export function endsOf ({ remoteAddress, remotePort, localAddress }: Ends): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`
}

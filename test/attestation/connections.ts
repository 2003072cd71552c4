import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import type { SocketAddress } from '../../src/attestation/socket/socket-address.ts'
import type { Shell } from '../fakes/shell.ts'

export interface Connection { readonly source: SocketAddress, readonly destination: SocketAddress, readonly accepted: Socket }

/** A server as the node's proxy is one: it sees where a connection comes from and where it went. */
export async function listen (host: string): Promise<Server & AsyncDisposable> {
  const server = createServer().listen(0, host)
  await once(server, 'listening')
  return server
}

function portOf (server: Server): number { return (server.address() as AddressInfo).port }

/** The shell's descriptor 3 is the connection. */
export async function connect (shell: Shell, server: Server, host = '127.0.0.1'): Promise<Connection> {
  const incoming = once(server, 'connection') as Promise<[Socket]>
  await shell.run(`exec 3<>/dev/tcp/${host}/${portOf(server)}`)
  const [accepted] = await incoming
  accepted.on('error', () => {})
  return {
    source: { address: accepted.remoteAddress!, port: accepted.remotePort! },
    destination: { address: accepted.localAddress!, port: accepted.localPort! },
    accepted
  }
}

import { createServer, isIP, type AddressInfo, type Socket } from 'node:net'
import { hostAndPort } from '../runtime/host-and-port.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { TlsCaller } from './call.ts'
import type { Connections } from './connections.ts'
import type { GrpcAdapter } from './grpc-adapter.ts'
import type { RpcLimits } from './limits.ts'
import type { Listener } from './listener.ts'

export interface PlainListenerDeps {
  readonly adapter: GrpcAdapter
  readonly connections: Connections
  readonly limits: RpcLimits
  readonly log: Logger
}

/**
 * Accepts plain text from this machine: nobody is known there, and nobody else can reach it.
 * @param address `port` 0: any free one
 * @throws {SpiffeError} `address_unusable`, also for an address that is not of the loopback interface
 */
export async function openPlainListener (
  { host, port }: { host: string, port: number }, { adapter, connections, limits, log }: PlainListenerDeps
): Promise<{ readonly listener: Listener, readonly address: { host: string, port: number } }> {
  checkLoopback({ host, port })
  const server = createServer((socket: Socket) => {
    const address = hostAndPort(socket.remoteAddress ?? '', socket.remotePort ?? 0)
    socket.on('error', error => log.debug({ address, reason: error.message }, 'connection failed'))
    socket.setNoDelay(true)
    const key = connections.nextKey('tls')
    const drop = () => { socket.destroy() }
    const caller: TlsCaller = { kind: 'tls', connection: key, address, scope: 'loopback', svid: undefined, drop }
    if (connections.add(key, socket, { caller })) adapter.inject(socket)
  })
  server.maxConnections = limits.maxConnections
  await new Promise<void>((resolve, reject) => {
    server.once('error', cause => {
      reject(new SpiffeError('address_unusable', `cannot listen on ${hostAndPort(host, port)}: ${cause.message}`, { cause }))
    })
    server.listen({ host, port, backlog: 512 }, resolve)
  })
  server.removeAllListeners('error').on('error', error => log.error({ err: error }, 'accepting failed'))
  return {
    listener: {
      stopAccepting: () => { server.close() }, refreshIdentity () {}, drain: () => adapter.drain(), close: () => adapter.destroy()
    },
    address: { host, port: (server.address() as AddressInfo).port }
  }
}

/** @throws {SpiffeError} `address_unusable` for what others could reach too */
export function checkLoopback ({ host, port }: { readonly host: string, readonly port: number }): void {
  if (isIP(host) !== 0 && (host.startsWith('127.') || host === '::1')) return
  const rule = 'is not of this machine alone: without TLS only 127.0.0.1 and ::1 are'
  throw new SpiffeError('address_unusable', `${hostAndPort(host, port)} ${rule}`)
}

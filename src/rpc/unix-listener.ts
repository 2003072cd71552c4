import { createServer, type Socket } from 'node:net'
import type { Logger } from '../runtime/logger.ts'
import type { UnixCaller } from './call.ts'
import { claimSocketPath } from './claim-socket-path.ts'
import { connectionPayers } from './connection-payers.ts'
import type { Connections } from './connections.ts'
import type { GrpcAdapter } from './grpc-adapter.ts'
import type { RpcLimits } from './limits.ts'
import type { Listener } from './listener.ts'
import { loadSocketOptions } from './socket-options.ts'
import { identifyPeer } from './unix-peer.ts'

/** Node's own backlog of 511 fails when a node's workloads all reconnect at once. */
const backlog = 4096

export interface UnixListenerDeps {
  readonly adapter: GrpcAdapter
  readonly connections: Connections
  readonly limits: RpcLimits
  readonly log: Logger
}

/**
 * Accepts on a Unix socket and pins the caller before anything it sends is read.
 * @throws {SpiffeError} `socket_in_use`, `file_unusable`
 */
export async function openUnixListener (path: string, mode: number, takeOver: boolean, deps: UnixListenerDeps): Promise<Listener> {
  const { adapter, connections, limits, log } = deps
  loadSocketOptions()
  const perPayer = new Map<string, number>()
  const payerOf = connectionPayers()
  const server = createServer(socket => accept(socket))
  server.maxConnections = limits.maxConnections
  server.on('drop', () => log.warn({ path, limit: limits.maxConnections }, 'connection refused: too many are open'))
  const release = await claimSocketPath(server, path, mode, backlog, takeOver)
  server.on('error', error => log.error({ path, err: error }, 'accepting failed'))

  function accept (socket: Socket): void {
    socket.on('error', error => log.debug({ reason: error.message }, 'connection failed'))
    const key = connections.nextKey('unix')
    const peer = identify(socket)
    if (peer === undefined) return
    const payer = payerOf(peer)
    const count = payer === undefined ? 0 : (perPayer.get(payer) ?? 0) + 1
    const caller: UnixCaller = { kind: 'unix', connection: key, peer, drop: () => { socket.destroy() } }
    if (payer !== undefined) perPayer.set(payer, count)
    socket.once('close', () => {
      peer[Symbol.dispose]()
      if (payer === undefined) return
      const left = (perPayer.get(payer) ?? 1) - 1
      if (left === 0) perPayer.delete(payer)
      else perPayer.set(payer, left)
    })
    if (count > limits.maxConnectionsPerUser) {
      log.warn({ uid: peer.uid, pid: peer.pid, limit: limits.maxConnectionsPerUser }, 'connection refused: the user has too many')
      socket.destroy()
      return
    }
    if (!connections.add(key, socket, { caller })) return
    log.debug({ connection: key, pid: peer.pid, uid: peer.uid, gid: peer.gid, pinnedBy: peer.pinnedBy }, 'connection accepted')
    socket.once('close', () => log.debug({ connection: key }, 'connection closed'))
    adapter.inject(socket)
  }

  function identify (socket: Socket): ReturnType<typeof identifyPeer> | undefined {
    try {
      return identifyPeer(socket)
    } catch (error) {
      log.warn({ reason: error instanceof Error ? error.message : String(error) }, 'connection refused: the caller cannot be identified')
      socket.destroy()
      return undefined
    }
  }

  return {
    stopAccepting () {
      release()
      server.close()
    },
    refreshIdentity () {},
    drain: () => adapter.drain(),
    close: () => adapter.destroy()
  }
}

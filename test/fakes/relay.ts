import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** A port behind which the server is away, until it is opened. */
export async function openRelay (target: number) {
  let isOpen = false
  const sockets = new Set<Socket>()
  const relay = createServer(socket => {
    if (!isOpen) {
      socket.destroy()
      return
    }
    const onward = connect({ host: '127.0.0.1', port: target })
    for (const [one, other] of [[socket, onward], [onward, socket]] as const) {
      sockets.add(one)
      one.on('error', () => other.destroy()).on('close', () => { sockets.delete(one); other.destroy() }).pipe(other)
    }
  })
  await once(relay.listen(0, '127.0.0.1'), 'listening')
  return {
    port: (relay.address() as AddressInfo).port,
    open () { isOpen = true },
    /** Where the name leads from now on: for new connections. */
    leadTo (port: number) { target = port },
    /** The server goes away: open connections end. */
    shut () {
      isOpen = false
      for (const socket of sockets) socket.destroy()
    },
    async [Symbol.asyncDispose] () {
      for (const socket of sockets) socket.destroy()
      await new Promise(resolve => { relay.close(resolve) })
    }
  }
}

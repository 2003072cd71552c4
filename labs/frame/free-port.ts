import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** Below what kernels give to whoever connects: nobody takes such a port by chance before the lab does. */
const [lowest, highest] = [20_000, 32_000]

/** A TCP port of 127.0.0.1 that nobody listens on now. */
export async function freePort (): Promise<number> {
  for (;;) {
    const port = randomInt(lowest, highest)
    const server = createServer()
    const bound = once(server, 'listening')
    server.listen(port, '127.0.0.1')
    const failure = await bound.then(() => undefined, (error: NodeJS.ErrnoException) => error)
    if (failure?.code === 'EADDRINUSE') continue
    if (failure !== undefined) throw failure
    server.close()
    await once(server, 'close')
    return port
  }
}

import { once } from 'node:events'
import { createServer } from 'node:net'

/** Below what kernels give by themselves to whoever connects or binds to 0: nobody takes a port from here by chance first. */
const [lowest, highest] = [20_000, 32_000]

/** A TCP port of 127.0.0.1 that nobody listens on now; not the same twice in a process, and hardly ever in two. */
export async function freePort (): Promise<number> {
  for (;;) {
    const port = next()
    const server = createServer()
    const bound = await new Promise<boolean>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => { if (error.code === 'EADDRINUSE') resolve(false); else reject(error) })
      server.listen(port, '127.0.0.1', () => resolve(true))
    })
    if (!bound) continue
    server.close()
    await once(server, 'close')
    return port
  }
}

let last = lowest + Math.floor(Math.random() * (highest - lowest))

function next (): number {
  last = last + 1 < highest ? last + 1 : lowest
  return last
}

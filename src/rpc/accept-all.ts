import { Socket, type Server } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { loadCLibrary } from '../runtime/c-library.ts'
import { descriptorOf } from './socket-options.ts'

/** Then everything else has its turn. */
const mostPerTurn = 64
const sockNonblock = 0o4000
const sockCloexec = 0o2000000

type Accept = (fd: number, address: null, length: null, flags: number) => number
let accept: Accept | undefined

/**
 * libuv accepts one connection per turn of the event loop. When a fleet comes back each turn is long, since all who came before want
 * something, and most of those who come would wait in the kernel's queue until they give up. Here a server takes all that is in the queue.
 * Where there is no FFI it takes one at a time, as ever.
 * @param take each connection that the server did not accept itself
 */
export function acceptAll (server: Server, take: (socket: Socket) => void): void {
  const { accept4 } = load()
  if (accept4 === undefined) return
  let running = false
  server.on('connection', () => {
    if (running) return
    running = true
    void run().finally(() => { running = false })
  })

  async function run (): Promise<void> {
    while (server.listening) {
      for (let left = mostPerTurn; left > 0; left--) {
        // Fails when nobody is left in the queue, and when descriptors have run out, which the server itself will be told.
        const fd = accept4?.(descriptorOf(server), null, null, sockNonblock | sockCloexec) ?? -1
        if (fd < 0) return
        take(new Socket({ fd }))
      }
      await nextTurn()
    }
  }
}

function load (): { readonly accept4: Accept | undefined } {
  try {
    accept ??= loadCLibrary().func('int accept4(int, void *, void *, int)') as Accept
  } catch {
    // The platform has no FFI.
  }
  return { accept4: accept }
}

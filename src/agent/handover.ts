import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { Logger } from '../runtime/logger.ts'
import { claimSocketPath } from '../rpc/claim-socket-path.ts'
import { loadSocketOptions, peerCredentials } from '../rpc/socket-options.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { Mailbox } from '../runtime/mailbox.ts'

/** What the two processes say to each other, a line each: the old one that it writes nothing more, the new one that it serves. */
const ready = 'ready\n'
const taken = 'taken\n'
const patienceMs = 20_000

/** Beside the agent's socket, so that who may replace that one may ask. @param socketPath of the Workload API */
export function handoverPath (socketPath: string): string { return `${socketPath}.handover` }

/** A new process that asked for this one's place. */
export interface HandoverRequest {
  readonly pid: number
  /** Says that nothing is written here any more. @returns whether the new process has taken the place; if not, this one must go on */
  grant (): Promise<boolean>
}

export interface HandoverListener extends AsyncDisposable {
  /** Rejects with the signal's reason. */
  next (signal: AbortSignal): Promise<HandoverRequest>
}

/**
 * Waits for a successor of the same user, the kernel being the witness (SO_PEERCRED).
 * @param replace the listener of a predecessor that is about to go
 * @throws {SpiffeError} `socket_in_use`, `file_unusable`
 */
export async function openHandover (path: string, replace: boolean, log: Logger): Promise<HandoverListener> {
  loadSocketOptions()
  const requests = new Mailbox<HandoverRequest>()
  const waiting = requests[Symbol.asyncIterator]()
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => {}).once('close', () => sockets.delete(socket))
    const { pid, uid } = peerCredentials(socket)
    if (uid === process.geteuid?.()) {
      requests.put({ pid, grant: async () => socket.write(ready) && await said(socket, taken) })
    } else {
      log.warn({ pid, uid }, 'a process of another user asked for this agent\'s place; refused')
      socket.destroy()
    }
  })
  const release = await claimSocketPath(server, path, 0o600, 8, replace)
  let next: Promise<IteratorResult<HandoverRequest, void>> | undefined
  return {
    async next (signal) {
      next ??= waiting.next()
      const { promise: stopped, reject } = Promise.withResolvers<never>()
      const stop = () => reject(signal.reason)
      signal.throwIfAborted()
      signal.addEventListener('abort', stop, { once: true })
      try {
        const { value } = await Promise.race([next, stopped])
        next = undefined
        if (value === undefined) throw new SpiffeError('server_stopping', 'the agent is stopping')
        return value
      } finally {
        signal.removeEventListener('abort', stop)
      }
    },
    async [Symbol.asyncDispose] () {
      release()
      server.close()
      for (const socket of sockets) socket.destroy()
    }
  }
}

/** An agent that keeps still until its successor serves, or gives up. */
export interface Predecessor extends Disposable {
  /** Before its place is taken. @throws {SpiffeError} `socket_in_use` when it has lost patience and went on */
  check (): void
  /** Its successor serves: it may go. */
  taken (): void
}

/**
 * Asks the agent that runs for its place. Disposing without `taken` lets it go on.
 * @returns once it writes nothing any more; `undefined` when there is none
 * @throws {SpiffeError} `socket_in_use` when it does not answer
 */
export async function askForHandover (path: string, signal: AbortSignal): Promise<Predecessor | undefined> {
  const socket = connect(path)
  try {
    await once(socket, 'connect', { signal })
  } catch (error) {
    socket.destroy()
    signal.throwIfAborted()
    if (['ENOENT', 'ECONNREFUSED'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw new SpiffeError('file_unusable', `cannot ask at ${path} for a hand-over`, { cause: error })
  }
  socket.on('error', () => {})
  if (!await said(socket, ready)) {
    socket.destroy()
    throw new SpiffeError('socket_in_use', `the agent behind ${path} does not hand over`)
  }
  return {
    check () {
      if (socket.destroyed || socket.readableEnded) throw new SpiffeError('socket_in_use', `the agent behind ${path} went on by itself`)
    },
    taken: () => { socket.end(taken) },
    [Symbol.dispose]: () => { if (!socket.writableEnded) socket.destroy() }
  }
}

/** Whether the other side says this, before it goes away or time is up. */
function said (socket: Socket, line: string): Promise<boolean> {
  return new Promise(resolve => {
    let heard = ''
    const settle = (whether: boolean) => {
      socket.setTimeout(0)
      resolve(whether)
    }
    socket.setTimeout(patienceMs, () => { socket.destroy() })
    socket.once('close', () => settle(false))
    socket.once('end', () => settle(heard === line))
    socket.setEncoding('utf8').on('data', text => {
      heard += String(text)
      if (heard === line) settle(true)
      else if (heard.length >= line.length) socket.destroy()
    })
    if (socket.destroyed) settle(false)
  })
}

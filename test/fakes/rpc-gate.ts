import { once } from 'node:events'
import { connect, createServer, type ClientHttp2Session, type ServerHttp2Stream, type IncomingHttpHeaders } from 'node:http2'
import { connect as connectSocket } from 'node:net'

/** What becomes of a call: nothing special; it does not arrive; or it is done and its answer does not arrive. */
export type Passage = 'through' | 'lost' | 'unanswered'

/**
 * A Unix socket before another one, over which gRPC goes call by call.
 * @param decide by the method's name, such as `BatchCreateEntry`
 * @param onHeld once a call is lost, or is done and unanswered; the caller waits until it gives up
 */
export async function openRpcGate (
  { path, target }: { readonly path: string, readonly target: string }, decide: (method: string) => Passage, onHeld: () => Promise<void>
): Promise<AsyncDisposable> {
  const onwards = new Set<ClientHttp2Session>()
  const server = createServer()
  server.on('session', session => {
    const onward = connect('http://localhost', { createConnection: () => connectSocket(target) })
    onwards.add(onward)
    session.on('error', () => {}).on('close', () => { onwards.delete(onward); onward.destroy() })
    onward.on('error', () => {}).on('close', () => session.destroy())
    session.on('stream', (stream, headers) => {
      stream.on('error', () => {})
      const passage = decide(String(headers[':path']).split('/').at(-1) ?? '')
      if (passage === 'lost') {
        void onHeld()
        return
      }
      pass(stream, onward, headers, passage === 'through' ? undefined : onHeld)
    })
  })
  server.listen(path)
  await once(server, 'listening')
  return {
    async [Symbol.asyncDispose] () {
      for (const onward of onwards) onward.destroy()
      await new Promise(resolve => { server.close(resolve) })
    }
  }
}

/** @param onDone instead of the answer */
function pass (
  stream: ServerHttp2Stream, session: ClientHttp2Session, headers: IncomingHttpHeaders, onDone: (() => Promise<void>) | undefined
): void {
  const onward = session.request(headers)
  stream.pipe(onward)
  stream.on('close', () => onward.destroy())
  onward.on('error', () => stream.destroy())
  if (onDone !== undefined) {
    onward.resume().on('end', () => { void onDone() })
    return
  }
  let trailers: IncomingHttpHeaders = {}
  onward.on('trailers', found => { trailers = found })
  onward.on('response', (found, flags) => {
    const isWhole = (flags & 1) !== 0
    stream.respond(found, isWhole ? { endStream: true } : { waitForTrailers: true })
    if (!isWhole) onward.pipe(stream)
  })
  stream.on('wantTrailers', () => { stream.sendTrailers(trailers) })
}

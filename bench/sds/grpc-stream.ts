import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2'
import { createConnection } from 'node:net'

/**
 * One gRPC stream on a Unix connection of its own, on bare HTTP/2: the client is not what is measured, and must not be in the way.
 * Fails when the stream ends.
 */
export class GrpcStream {
  readonly #session: ClientHttp2Session
  readonly #stream: ClientHttp2Stream
  #buffered: Buffer = Buffer.alloc(0)

  /** @param path such as `/SpiffeWorkloadAPI/FetchX509SVID` */
  constructor (socket: string, path: string, onMessage: (message: Buffer, stream: GrpcStream) => void, onEnd: (why: string) => void) {
    this.#session = connect('http://localhost', { createConnection: () => createConnection(socket) })
    this.#session.on('error', error => onEnd(error.message))
    this.#stream = this.#session.request({
      [constants.HTTP2_HEADER_METHOD]: 'POST',
      [constants.HTTP2_HEADER_PATH]: path,
      [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
      [constants.HTTP2_HEADER_TE]: 'trailers',
      'workload.spiffe.io': 'true'
    })
    this.#stream.on('data', (chunk: Buffer) => {
      this.#buffered = this.#buffered.length === 0 ? chunk : Buffer.concat([this.#buffered, chunk])
      for (let message = this.#take(); message !== undefined; message = this.#take()) onMessage(message, this)
    })
    this.#stream.on('trailers', headers => onEnd(`status ${String(headers['grpc-status'])}: ${String(headers['grpc-message'])}`))
    this.#stream.on('response', headers => {
      if (headers['grpc-status'] !== undefined) onEnd(`status ${String(headers['grpc-status'])}: ${String(headers['grpc-message'])}`)
    })
    this.#stream.on('error', error => onEnd(error.message))
    this.#stream.on('close', () => onEnd('closed'))
  }

  send (message: Uint8Array): void {
    const frame = Buffer.allocUnsafe(5 + message.length)
    frame[0] = 0
    frame.writeUInt32BE(message.length, 1)
    frame.set(message, 5)
    this.#stream.write(frame)
  }

  /** There is no further request. */
  end (): void { this.#stream.end() }

  close (): void { this.#session.destroy() }

  #take (): Buffer | undefined {
    if (this.#buffered.length < 5) return undefined
    const end = 5 + this.#buffered.readUInt32BE(1)
    if (this.#buffered.length < end) return undefined
    const message = this.#buffered.subarray(5, end)
    this.#buffered = this.#buffered.subarray(end)
    return message
  }
}

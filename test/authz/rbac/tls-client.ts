import { once } from 'node:events'
import type { TcpNetConnectOpts } from 'node:net'
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls'
import { encodePem } from '../../../src/x509/pem.ts'
import type { TestSvid } from '../../fakes/authority.ts'

export interface Caller {
  /** Without a certificate. */
  readonly svid: TestSvid | undefined
  /** Of 127.0.0.0/8: all of it is this machine. */
  readonly address: string
  readonly serverName: string | undefined
}

export interface Answer { readonly status: number, readonly headers: ReadonlyMap<string, string>, readonly body: string }

export async function openTls (port: number, { svid, address, serverName }: Caller, protocols?: readonly string[]): Promise<TLSSocket> {
  const options: ConnectionOptions & TcpNetConnectOpts = {
    host: '127.0.0.1', port, localAddress: address, servername: serverName ?? '', rejectUnauthorized: false,
    ...protocols === undefined ? {} : { ALPNProtocols: [...protocols] },
    ...svid === undefined ? {} : {
      cert: svid.chain.map(der => encodePem('CERTIFICATE', der)).join(''), key: encodePem('PRIVATE KEY', svid.privateKey)
    }
  }
  const socket = connect(options)
  await once(socket, 'secureConnect')
  return socket
}

/** Whether bytes come back, and the connection is not closed instead. */
export async function bytesComeBack (port: number, caller: Caller, protocol: string): Promise<boolean> {
  const socket = await openTls(port, caller, [protocol])
  socket.on('error', () => undefined).write('x')
  try {
    return await new Promise<boolean>(resolve => socket.once('data', () => resolve(true)).once('close', () => resolve(false)))
  } finally {
    socket.destroy()
  }
}

/** HTTP/1.1 as it is written, one request after the other on one connection: a client of more manners would repair what is sent. */
export class RawHttp implements Disposable {
  readonly #socket: TLSSocket
  #received = ''
  #wake: (() => void) | undefined
  #closed = false

  constructor (socket: TLSSocket) {
    this.#socket = socket
    socket.setEncoding('latin1')
      .on('data', (text: string) => { this.#received += text; this.#wake?.() })
      .on('error', () => undefined)
      .on('close', () => { this.#closed = true; this.#wake?.() })
  }

  /** @param lines after the request line, without line ends */
  async ask (method: string, target: string, lines: readonly string[]): Promise<Answer> {
    this.#socket.write(`${method} ${target} HTTP/1.1\r\n${lines.map(line => `${line}\r\n`).join('')}\r\n`, 'latin1')
    for (;;) {
      const end = this.#received.indexOf('\r\n\r\n')
      if (end >= 0) {
        const [first = '', ...rest] = this.#received.slice(0, end).split('\r\n')
        const headers = new Map(rest.map(line => {
          const [, name = '', value = ''] = /^([^:]*):\s*(.*)$/.exec(line) ?? []
          return [name.toLowerCase(), value]
        }))
        const length = Number(headers.get('content-length') ?? 0)
        if (this.#received.length >= end + 4 + length) {
          const body = this.#received.slice(end + 4, end + 4 + length)
          this.#received = this.#received.slice(end + 4 + length)
          if (headers.get('connection') === 'close') this.#closed = true
          return { status: Number(first.split(' ')[1]), headers, body }
        }
      }
      if (this.#closed) throw new Error(`the connection was closed at ${method} ${target}: ${this.#received}`)
      await new Promise<void>(resolve => { this.#wake = resolve })
    }
  }

  get closed (): boolean { return this.#closed }
  [Symbol.dispose] (): void { this.#socket.destroy() }
}

import { once } from 'node:events'
import { createServer, request, type Server } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { WebCa, WebCertificate } from '../federation/web-ca.ts'

/** What partners meet at an endpoint's address. */
export type FrontMode = 'passes on' | 'is dead' | 'repeats an old bundle' | 'shows an expired certificate'

/** A web server in front of a bundle endpoint, as a content delivery network would be, that fails in all ways that one can. */
export class BundleFront implements AsyncDisposable {
  /** How often each mode was met. */
  readonly met = new Map<FrontMode, number>()
  readonly #server: Server
  readonly #good: WebCertificate
  readonly #expired: WebCertificate
  readonly #sockets = new Set<Socket>()
  readonly #target: number
  #mode: FrontMode = 'passes on'
  #kept = ''

  private constructor (target: number, good: WebCertificate, expired: WebCertificate) {
    this.#target = target
    this.#good = good
    this.#expired = expired
    this.#server = createServer(good, (_request, response) => {
      response.setHeader('content-type', 'application/json')
      const body = this.#mode === 'repeats an old bundle' ? Promise.resolve(this.#kept) : this.#fetch()
      body.then(text => { response.end(text) }, () => { response.socket?.destroy() })
    })
    this.#server.on('tlsClientError', () => {}).on('connection', (socket: Socket) => {
      this.met.set(this.#mode, (this.met.get(this.#mode) ?? 0) + 1)
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
      if (this.#mode === 'is dead') socket.destroy()
    })
  }

  /** @param target the endpoint's own port */
  static async open (target: number, ca: WebCa): Promise<BundleFront> {
    const [good, expired] = await Promise.all([ca.certify(), ca.certify({ notAfter: new Date(Date.now() - 3_600_000) })])
    const front = new BundleFront(target, good, expired)
    await once(front.#server.listen(0, '127.0.0.1'), 'listening')
    return front
  }

  get port (): number { return (this.#server.address() as AddressInfo).port }
  /** Who is being answered. */
  get busy (): boolean { return this.#sockets.size > 0 }

  become (mode: FrontMode): void {
    this.#mode = mode
    this.#server.setSecureContext(mode === 'shows an expired certificate' ? this.#expired : this.#good)
  }

  /** Keeps what the endpoint says now, for later. */
  async keep (): Promise<void> { this.#kept = await this.#fetch() }

  #fetch (): Promise<string> {
    return new Promise((resolve, reject) => {
      request({ host: '127.0.0.1', port: this.#target, path: '/', agent: false, rejectUnauthorized: false }, response => {
        let body = ''
        response.setEncoding('utf8').on('data', (text: string) => { body += text }).on('end', () => resolve(body)).on('error', reject)
      }).on('error', reject).end()
    })
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await once(this.#server, 'close')
  }
}

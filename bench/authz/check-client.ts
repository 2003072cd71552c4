import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:net'
import { decodeMessage } from '../../src/wire/decode-message.ts'
import { encodeMessage } from '../../src/wire/encode-message.ts'
import { CheckRequest, CheckResponse } from '../../src/wire/generated/envoy-authorization.ts'
import type { BenchRequest } from './cases.ts'

export type Where = { readonly path: string } | { readonly host: string, readonly port: number }

/** As Envoy asks, on connections that stay. */
export class CheckClient implements Disposable {
  readonly #sessions: readonly ClientHttp2Session[]
  #next = 0

  constructor (where: Where, connections: number) {
    this.#sessions = Array.from({ length: connections }, () => {
      const session = connectHttp2('http://authz', { createConnection: () => connect(where) })
      // Failed calls say it.
      session.on('error', () => {})
      return session
    })
  }

  /** @param frame of `frameOf` @returns whether it is allowed */
  check (frame: Buffer): Promise<boolean> {
    const session = this.#sessions[this.#next++ % this.#sessions.length] as ClientHttp2Session
    return new Promise((resolve, reject) => {
      const call = session.request({
        ':method': 'POST', ':path': '/envoy.service.auth.v3.Authorization/Check', 'content-type': 'application/grpc', te: 'trailers'
      })
      const chunks: Buffer[] = []
      call.on('data', (chunk: Buffer) => chunks.push(chunk))
      call.on('error', reject)
      call.on('end', () => {
        const answer = Buffer.concat(chunks)
        if (answer.length < 5) return reject(new Error('the call failed'))
        resolve(decodeMessage(CheckResponse, answer.subarray(5)).status?.code === 0)
      })
      call.end(frame)
    })
  }

  [Symbol.dispose] (): void { for (const session of this.#sessions) session.destroy() }
}

/** What Envoy sends for a request, in the size that it has. */
export function frameOf ({ destination, source, method, path }: BenchRequest, i: number): Buffer {
  const message = encodeMessage(CheckRequest, { attributes: {
    source: { principal: source, address: { socketAddress: { address: '10.0.0.1', portValue: 40_000 + i } } },
    destination: { principal: destination, address: { socketAddress: { address: '10.0.0.2', portValue: 8_443 } } },
    request: { time: { seconds: 1_800_000_000n, nanos: 0 }, http: {
      id: String(i), method, path, host: 'server.internal', scheme: 'https', protocol: 'HTTP/1.1', size: -1n,
      headers: {
        ':authority': 'server.internal', ':method': method, ':path': path, ':scheme': 'https', 'x-forwarded-proto': 'https', accept: '*/*',
        'user-agent': 'bench/1', 'x-request-id': `b9b1a4c5-1111-2222-3333-${String(i).padStart(12, '0')}`
      }
    } }
  } })
  const frame = Buffer.alloc(5 + message.length)
  frame.writeUInt32BE(message.length, 1)
  frame.set(message, 5)
  return frame
}

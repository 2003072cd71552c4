import { randomBytes, randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { connect as connectHttp2, constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2'
import { createConnection, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { encodePem } from '../../src/x509/pem.ts'
import { pemOf, type Identity } from '../fakes/forge.ts'

/** A way to open one connection to a listener, up to the point where bytes of our choice go out. */
export interface Target { readonly name: string, open (): Promise<Socket> }

export function unixTarget (name: string, path: string): Target {
  return { name, open: () => opened(createConnection({ path }), 'connect') }
}

/** The port before any handshake. */
export function tcpTarget (name: string, port: number): Target {
  return { name, open: () => opened(createConnection({ host: '127.0.0.1', port }), 'connect') }
}

/** The port after a handshake, anonymous unless an identity is given. */
export function tlsTarget (name: string, port: number, identity?: Identity): Target {
  const certificate = identity === undefined ? {} : { cert: pemOf(identity), key: encodePem('PRIVATE KEY', identity.privateKey) }
  const options = { host: '127.0.0.1', port, rejectUnauthorized: false, ALPNProtocols: ['h2'], ...certificate }
  return { name, open: () => opened(connectTls(options), 'secureConnect') }
}

function opened (socket: Socket, event: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.once(event, () => {
      socket.off('error', reject)
      socket.on('error', () => undefined)
      resolve(socket)
    })
  })
}

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

function frame (type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const header = Buffer.alloc(9)
  header.writeUIntBE(payload.length, 0, 3)
  header.writeUInt8(type, 3)
  header.writeUInt8(flags, 4)
  header.writeUInt32BE(stream, 5)
  return Buffer.concat([header, payload])
}

const settings = frame(4, 0, 0, new Uint8Array())

/** Bytes that no well-behaved client sends, by what they are. */
export const garbage: Readonly<Record<string, Buffer>> = {
  'random bytes': randomBytes(65_536),
  'zeroes': Buffer.alloc(65_536),
  'an HTTP/1.1 request': Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
  'half a preface': preface.subarray(0, 10),
  'random bytes after the preface': Buffer.concat([preface, randomBytes(65_536)]),
  'random frames': Buffer.concat([preface, settings, ...repeat(200, () => frame(randomInt(256), randomInt(256), 1, randomBytes(100)))]),
  'a frame longer than allowed': Buffer.concat([preface, settings, frame(0, 0, 1, Buffer.alloc(1_000_000))]),
  'headers that are no HPACK': Buffer.concat([preface, settings, frame(1, 4, 1, randomBytes(500))]),
  '10 000 settings': Buffer.concat([preface, ...repeat(10_000, () => settings)]),
  '10 000 pings': Buffer.concat([preface, settings, ...repeat(10_000, () => frame(6, 0, 0, Buffer.alloc(8)))]),
  '5 000 continuations': Buffer.concat([
    preface, settings, frame(1, 0, 1, Buffer.of(0x82)), ...repeat(5000, () => frame(9, 0, 1, Buffer.alloc(1000, 0x40)))
  ])
}

/** The same for listeners that speak plain HTTP/1.1. */
export const httpGarbage: Readonly<Record<string, Buffer>> = {
  'random bytes': randomBytes(65_536),
  'zeroes': Buffer.alloc(65_536),
  'an HTTP/2 preface and frames': Buffer.concat([preface, settings, ...repeat(200, () => frame(1, 4, 1, randomBytes(100)))]),
  'half a request': Buffer.from('GET / HT'),
  'a path of 1 MB': Buffer.from(`GET /${'a'.repeat(1_000_000)} HTTP/1.1\r\nHost: x\r\n\r\n`),
  'a header of 1 MB': Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(1_000_000)}\r\n\r\n`),
  '10 000 headers': Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\n${'X: y\r\n'.repeat(10_000)}\r\n`),
  'a body of 5 MiB': Buffer.concat([Buffer.from('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5242880\r\n\r\n'), Buffer.alloc(5_242_880)]),
  'a body without end': Buffer.from(`POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\na\r\n'.repeat(10_000)}`),
  'a body of two lengths': Buffer.from('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET'),
  'a length below zero': Buffer.from('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n'),
  '10 000 requests at once': Buffer.from('GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(10_000)),
  'an upgrade': Buffer.from('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'),
  'a tunnel': Buffer.from('CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n')
}

function repeat (times: number, make: () => Buffer): Buffer[] { return Array.from({ length: times }, make) }

/** Sends bytes and waits until the other side ends the connection, or has had a while to choke on them. */
export async function throwAt (target: Target, bytes: Buffer): Promise<void> {
  const socket = await target.open()
  socket.resume()
  const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
  socket.write(bytes)
  await Promise.race([closed, new Promise<void>(resolve => setTimeout(resolve, 200))])
  socket.destroy()
  await closed
}

/** `status` is undefined when the connection ended without one. */
export interface GrpcAnswer { readonly status: string | undefined }

/** One raw gRPC call. @param body as sent, with the length prefix */
export async function rawCall (
  target: Target, path: string, body: Buffer, headers: Readonly<Record<string, string>> = {}
): Promise<GrpcAnswer> {
  const session = await openSession(target)
  try {
    return await new Promise((resolve, reject) => {
      const call = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', 'te': 'trailers', ...headers })
      const read = (sent: Record<string, unknown>) => {
        if (typeof sent['grpc-status'] === 'string') resolve({ status: sent['grpc-status'] })
      }
      call.on('response', read).on('trailers', read).on('error', reject).on('close', () => resolve({ status: undefined }))
      call.resume()
      call.end(body)
    })
  } finally {
    session.destroy()
  }
}

/**
 * A raw gRPC stream in which something follows what was good.
 * @param good sent first; `undefined`: nothing
 * @param bad sent once the first answer has come, or at once when nothing good was sent
 */
export async function rawStream (
  target: Target, path: string, { good, bad }: { readonly good?: Buffer | undefined, readonly bad: Buffer }
): Promise<GrpcAnswer & { readonly answered: boolean }> {
  const session = await openSession(target)
  try {
    return await new Promise((resolve, reject) => {
      const call = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', 'te': 'trailers' })
      let answered = false
      const read = (sent: Record<string, unknown>) => {
        if (typeof sent['grpc-status'] === 'string') resolve({ status: sent['grpc-status'], answered })
      }
      call.on('response', read).on('trailers', read).on('error', reject).on('close', () => resolve({ status: undefined, answered }))
      call.on('data', () => {
        if (!answered) call.end(bad)
        answered = true
      })
      if (good === undefined) call.end(bad)
      else call.write(good)
    })
  } finally {
    session.destroy()
  }
}

/** Writes without ever reading, as long as the other side takes it, at most for a second. @returns how many bytes were taken */
export async function floodStream (target: Target, path: string, message: Buffer): Promise<number> {
  const session = await openSession(target)
  const call = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', 'te': 'trailers' })
  call.on('error', () => undefined).pause()
  const chunk = Buffer.concat(repeat(1000, () => message))
  const end = performance.now() + 1000
  let taken = 0
  while (!call.destroyed && performance.now() < end) {
    const ready = call.write(chunk)
    taken += chunk.length
    if (!ready && !await drained(call)) break
  }
  session.destroy()
  return taken
}

/** Whether the other side takes more within a second. */
async function drained (call: ClientHttp2Stream): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const [onDrain, onClose] = [() => resolve(true), () => resolve(false)]
  const timer = setTimeout(onClose, 1000)
  call.once('drain', onDrain).once('close', onClose)
  try {
    return await promise
  } finally {
    clearTimeout(timer)
    call.off('drain', onDrain).off('close', onClose)
  }
}

/** Opens streams and resets each at once. */
export async function resetRapidly (target: Target, path: string, times: number): Promise<void> {
  const session = await openSession(target)
  for (let done = 0; done < times && !session.destroyed; done++) {
    const call = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', 'te': 'trailers' })
    call.on('error', () => undefined)
    call.close(constants.NGHTTP2_CANCEL)
    if (done % 100 === 0) await new Promise(resolve => setImmediate(resolve))
  }
  session.destroy()
}

/** A gRPC message with its prefix. @param length what the prefix says, if not the truth */
export function grpcMessage (bytes: Uint8Array, length = bytes.length): Buffer {
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(length, 1)
  return Buffer.concat([prefix, bytes])
}

/** Resident memory of a process, MiB. */
export function residentMiB (pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

async function openSession (target: Target): Promise<ClientHttp2Session> {
  const socket = await target.open()
  const session = connectHttp2('http://localhost', { createConnection: () => socket })
  session.on('error', () => undefined)
  return session
}

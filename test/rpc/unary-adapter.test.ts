import { connect as connectHttp2, constants, type ClientHttp2Session } from 'node:http2'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { openRpcServer } from '../../src/rpc/server.ts'
import type { UnaryMethod } from '../../src/rpc/unary-adapter.ts'
import { type Clock, systemClock } from '../../src/runtime/clock.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'

const folder = mkdtempSync(join(tmpdir(), 'unary-'))
t.teardown(() => rmSync(folder, { recursive: true }))
let sockets = 0

const methods: UnaryMethod[] = [
  { path: '/test.Test/Echo', handle: bytes => Uint8Array.from(bytes) },
  { path: '/test.Test/Later', handle: async bytes => { await new Promise(setImmediate); return Uint8Array.from(bytes) } },
  { path: '/test.Test/Refuse', handle () { throw new SpiffeError('policy_malformed', 'no: ä') } },
  { path: '/test.Test/Bug', handle () { throw new TypeError('secret') } }
]

interface Options { readonly clock?: Clock, readonly methods?: readonly UnaryMethod[] }

async function open (t: Tap, { clock = systemClock, methods: offered = methods }: Options = {}) {
  const path = join(folder, `${++sockets}.sock`)
  const { log, lines } = capturedLog()
  const server = openRpcServer({ services: [], unary: offered, log, clock, limits: { maxMessageBytes: 1_000 } })
  await server.listenUnix({ path })
  const session = connectHttp2('http://x', { createConnection: () => connect(path) })
  session.on('error', () => {})
  t.teardown(async () => {
    session.destroy()
    await server[Symbol.asyncDispose]()
  })
  return { server, session, lines }
}
type Tap = Pick<typeof t, 'teardown'>

interface Answer { status: number, grpcStatus: string | undefined, message: string | undefined, body: Buffer }

function call (session: ClientHttp2Session, path: string, body: Buffer, headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', ...headers })
    const seen: Record<string, unknown> = {}
    const chunks: Buffer[] = []
    stream.on('response', head => Object.assign(seen, head)).on('trailers', trailers => Object.assign(seen, trailers))
    stream.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', reject)
    stream.on('close', () => resolve({
      status: Number(seen[':status']),
      grpcStatus: seen['grpc-status'] as string,
      message: seen['grpc-message'] as string,
      body: Buffer.concat(chunks)
    }))
    stream.end(body)
  })
}

function framed (text: string, flag = 0): Buffer {
  const body = Buffer.from(text)
  const head = Buffer.from([flag, 0, 0, 0, 0])
  head.writeUInt32BE(body.length, 1)
  return Buffer.concat([head, body])
}

t.test('a message comes in and another goes out', async t => {
  const { session } = await open(t)
  for (const method of ['Echo', 'Later']) {
    const { status, grpcStatus, body } = await call(session, `/test.Test/${method}`, framed('hello'))
    t.same([status, grpcStatus, body.toString()], [200, '0', '\0\0\0\0\u0005hello'], method)
  }
  const many = await Promise.all(Array.from({ length: 200 }, (_, i) => call(session, '/test.Test/Later', framed(`${i}`))))
  t.same(many.map(({ body }) => body.subarray(5).toString()), Array.from({ length: 200 }, (_, i) => `${i}`))
})

t.test('refusals have their status, bugs say nothing', async t => {
  const { session, lines } = await open(t)
  t.match(await call(session, '/test.Test/Refuse', framed('')), { grpcStatus: '3', message: 'no:%20%C3%A4' })
  const bug = await call(session, '/test.Test/Bug', framed(''))
  t.match(bug, { grpcStatus: '13', message: /^internal%20error/ })
  t.ok(lines.some(({ msg }) => msg === 'call failed: this is a bug'))
  t.match(await call(session, '/test.Test/Nothing', framed('')), { grpcStatus: '12' })
})

t.test('what is no call is refused, and the connection goes on', async t => {
  const { session } = await open(t)
  const broken: Record<string, [Buffer, string]> = {
    'nothing': [Buffer.of(), '13'],
    'half a prefix': [Buffer.from([0, 0]), '13'],
    'too short': [framed('hello').subarray(0, 7), '13'],
    'two messages': [Buffer.concat([framed('a'), framed('b')]), '13'],
    'compressed': [framed('a', 1), '13'],
    'too long': [framed('x'.repeat(5_000)), '8']
  }
  for (const [what, [body, status]] of Object.entries(broken)) {
    t.equal((await call(session, '/test.Test/Echo', body)).grpcStatus, status, what)
  }
  t.equal((await call(session, '/test.Test/Echo', framed('a'), { 'content-type': 'text/plain' })).status, 415)
  t.equal((await call(session, '/test.Test/Echo', framed('a'))).grpcStatus, '0')
})

t.test('a call that is cancelled ends alone', async t => {
  const { session } = await open(t)
  const stream = session.request({ ':method': 'POST', ':path': '/test.Test/Later', 'content-type': 'application/grpc' })
  const closed = new Promise(resolve => stream.on('close', resolve).on('error', () => {}))
  stream.write(framed('hello').subarray(0, 6))
  stream.close(constants.NGHTTP2_CANCEL)
  await closed
  t.equal((await call(session, '/test.Test/Echo', framed('a'))).grpcStatus, '0')
})

t.test('a deadline ends what is not answered at once, and tells who works on it', async t => {
  const clock = new ManualClock()
  const signals: AbortSignal[] = []
  let arrived = () => {}
  const hang: UnaryMethod = { path: '/test.Test/Hang', handle: async (_bytes, _caller, _metadata, { signal }) => {
    signals.push(signal)
    arrived()
    return await new Promise((_resolve, reject) => { signal.addEventListener('abort', () => reject(signal.reason)) })
  } }
  const { session } = await open(t, { clock, methods: [hang, ...methods] })
  const begin = async (headers: Record<string, string>) => {
    const here = new Promise<void>(resolve => { arrived = resolve })
    const answer = call(session, '/test.Test/Hang', framed('a'), headers)
    await here
    return { answer }
  }
  const timeouts = { '250m': 250, '2S': 2_000, '1500000u': 1_500 }
  for (const [timeout, ms] of Object.entries(timeouts)) {
    const { answer } = await begin({ 'grpc-timeout': timeout })
    await clock.advance(ms - 1)
    t.notOk(signals.at(-1)?.aborted, `${timeout}: not before`)
    await clock.advance(1)
    t.match(await answer, { grpcStatus: '4', message: /no%20answer%20within/ }, timeout)
    t.match(signals.at(-1)?.reason, { code: 'deadline_exceeded' }, timeout)
  }
  for (const timeout of ['', '1', '1s', '-1S', '123456789S', '1.5S']) {
    t.match(await call(session, '/test.Test/Later', framed('a'), { 'grpc-timeout': timeout }), { grpcStatus: '13' }, `${timeout} is none`)
  }
  t.match(await call(session, '/test.Test/Later', framed('a'), { 'grpc-timeout': '1S' }), { grpcStatus: '0' })
  const stream = session.request({ ':method': 'POST', ':path': '/test.Test/Hang', 'content-type': 'application/grpc' })
  const here = new Promise<void>(resolve => { arrived = resolve })
  stream.on('error', () => {}).end(framed('a'))
  await here
  const left = once(signals.at(-1) as AbortSignal, 'abort')
  stream.close(constants.NGHTTP2_CANCEL)
  await left
  t.match(signals.at(-1)?.reason, { code: 'cancelled' }, 'nor is anything done for who has gone')
})

t.test('draining lets running calls end', async t => {
  const { server, session } = await open(t)
  const running = call(session, '/test.Test/Later', framed('a'))
  await call(session, '/test.Test/Echo', framed('b'))
  await server.drain()
  t.equal((await running).grpcStatus, '0')
  t.equal(session.closed, true)
})

t.test('without TLS, this machine alone', async t => {
  const { server } = await open(t)
  await t.rejects(server.listenPlain({ host: '0.0.0.0', port: 0 }), { code: 'address_unusable' })
  const { port } = await server.listenPlain({ host: '127.0.0.1', port: 0 })
  const session = connectHttp2('http://x', { createConnection: () => connect(port, '127.0.0.1') })
  t.teardown(() => session.destroy())
  t.equal((await call(session, '/test.Test/Echo', framed('a'))).grpcStatus, '0')
})

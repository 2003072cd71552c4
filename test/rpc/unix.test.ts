import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { credentials, Client, Metadata, status as grpcStatus, type ServiceError } from '@grpc/grpc-js'
import t, { type Test } from 'tap'
import type { CallContext, Caller } from '../../src/rpc/call.ts'
import { openUnixChannel, type Channel } from '../../src/rpc/channel.ts'
import { RpcError, type RpcStatusName } from '../../src/rpc/rpc-error.ts'
import { bind, openRpcServer, type RpcServer, type RpcServerOptions } from '../../src/rpc/server.ts'
import { loadSocketOptions } from '../../src/rpc/socket-options.ts'
import { identifyPeer, pinProcess } from '../../src/rpc/unix-peer.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { encoded } from '../../src/wire/encoded.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason } from '../../src/wire/generated/types.ts'
import { workloadService, X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ContainerGroup, groupsMissing } from '../fakes/container-group.ts'
import { eventually } from '../fakes/eventually.ts'

/** Of a thousand connections, on a machine that others keep busy. */
const patienceMs = 120_000

void t.test('calls', async t => {
  const seen: CallContext[] = []
  const entries = bind(entryService, {
    async countEntries ({ filter }, context) {
      seen.push(context)
      return { count: filter?.byHint?.value.length ?? -1 }
    },
    async * syncAuthorizedEntries (requests) {
      for await (const { ids } of requests) {
        yield { entries: ids.map(id => ({ id })), more: true }
        if (ids.includes('last')) break
      }
      yield { more: false }
    }
  })
  const workload = bind(workloadService, {
    async * fetchX509SVID () {
      yield { svids: [{ spiffeId: 'spiffe://example.org/a' }] }
      yield encoded(X509SVIDResponse, { svids: [{ spiffeId: 'spiffe://example.org/b' }] })
    }
  })
  const { channel, path } = await serve(t, [entries, workload])
  const client = channel.client(entryService)

  t.same(await client.countEntries({ filter: { byHint: { value: 'abc' } } }, { metadata: { 'Workload.Spiffe.Io': 'true' } }), { count: 3 },
    'WLE-02 a unary call is answered over gRPC')
  t.same(seen[0]?.metadata.get('workload.spiffe.io'), ['true'], 'metadata has lower-case names')
  t.equal(seen[0]?.method, '/spire.api.server.entry.v1.Entry/CountEntries')
  t.match(seen[0]?.caller, { kind: 'unix', connection: 'unix-1',
    peer: { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.(), executableKnown: true } },
  'the caller is who the kernel says')
  t.equal(seen[0]?.signal.aborted, false)

  t.same((await collect(channel.client(workloadService).fetchX509SVID({}))).map(({ svids }) => svids[0]?.spiffeId),
    ['spiffe://example.org/a', 'spiffe://example.org/b'], 'WLE-02 a stream is answered; an encoded message goes as any other')
  const answers = collect(client.syncAuthorizedEntries(eachOf([{ ids: ['x'] }, { ids: ['last'] }, { ids: ['never read'] }])))
  t.same((await answers).map(({ entries, more }) => [entries.map(({ id }) => id), more]), [[['x'], true], [['last'], true], [[], false]],
    'WLE-02 both sides stream; a handler may stop reading and still answer')

  await t.rejects(client.getEntry({ id: 'x' }), { status: 'UNIMPLEMENTED', code: 'not_implemented' }, 'WLE-16 a method without a handler')
  const stranger = openUnixChannel(path)
  t.teardown(() => stranger[Symbol.asyncDispose]())
  await t.rejects(stranger.client({ name: 'no.Such', methods: entryService.methods }).countEntries({}),
    { status: 'UNIMPLEMENTED', code: undefined },
    'WLE-16 a service that is not offered')
  await t.rejects(openUnixChannel(`${path}.none`).client(entryService).countEntries({}), { name: 'RpcError', status: 'UNAVAILABLE' })
})

void t.test('errors', async t => {
  const thrown: { error: unknown } = { error: undefined }
  const fail = async (): Promise<never> => { throw thrown.error }
  const { log, lines } = capturedLog()
  const refuse = (context: CallContext) => {
    if (context.method.endsWith('/GetEntry')) throw new SpiffeError('authorization_denied',
      `authorization denied for method ${context.method}`)
  }
  const { channel, path } = await serve(t, [
    bind(entryService, { countEntries: fail, getEntry: fail, async * syncAuthorizedEntries () { yield {}; await fail() } })
  ], { log, before: refuse })
  const client = channel.client(entryService)
  const failure = async () => {
    try {
      await client.countEntries({})
    } catch (error) {
      if (error instanceof RpcError) return error
    }
    throw new Error('the call did not fail')
  }

  thrown.error = new SpiffeError('x509_svid_expired', 'expired: \ud800 ü %', { requirement: 'X509-19', cause: new Error('secret cause') })
  const refused = await failure()
  t.match(refused, { status: 'UNAUTHENTICATED', code: 'x509_svid_expired', message: 'expired: \ufffd ü %',
    method: '/spire.api.server.entry.v1.Entry/CountEntries' })
  t.notMatch(JSON.stringify(refused.details.map(({ value }) => Buffer.from(value).toString('latin1'))), 'secret', 'the cause stays here')
  t.match(lines.at(-1), { level: 'debug', status: 'UNAUTHENTICATED', code: 'x509_svid_expired', method: refused.method,
    caller: { uid: process.getuid?.() } })
  t.type(lines.at(-1)?.['durationMs'], 'number')

  thrown.error = new SpiffeError('agent_banned', 'authorization denied for method /x')
  const banned = await failure()
  t.match(banned, { status: 'PERMISSION_DENIED', code: 'agent_banned', message: 'authorization denied for method /x' })
  t.equal(banned.detail(PermissionDeniedDetails)?.reason, PermissionDeniedDetails_Reason.AGENT_BANNED, 'SPIRE agents read the reason')
  t.equal(refused.detail(PermissionDeniedDetails), undefined)

  thrown.error = new TypeError('boom /etc/secret')
  const bug = await failure()
  t.match(bug, { status: 'INTERNAL', code: undefined, details: [] })
  t.match(bug.message, /^internal error \(request [0-9a-f]{8}-\d+\)$/, 'a bug is told without details')
  const logged = lines.filter(({ level }) => level === 'error')
  t.equal(logged.length, 1, 'and logged once')
  t.match(logged[0], { err: { message: 'boom /etc/secret', stack: /TypeError/ } })
  t.ok(bug.message.includes(String(logged[0]?.['requestId'])), 'under the request id that the caller got')

  thrown.error = new SpiffeError('no_identity_issued', 'no identity issued')
  await t.rejects(collect(client.syncAuthorizedEntries(eachOf([]))), { status: 'PERMISSION_DENIED', code: 'no_identity_issued' },
    'a stream that fails late')
  await t.rejects(client.getEntry({}), { code: 'authorization_denied',
    message: 'authorization denied for method /spire.api.server.entry.v1.Entry/GetEntry' },
  'authorization runs before the handler')

  const raw = new Client(`unix:${path}`, credentials.createInsecure())
  t.teardown(() => raw.close())
  const send = (bytes: Buffer) => new Promise<ServiceError | null>(resolve => {
    raw.makeUnaryRequest('/spire.api.server.entry.v1.Entry/CountEntries', (b: Buffer) => b, (b: Buffer) => b, bytes, new Metadata(),
      error => resolve(error))
  })
  t.match(await send(Buffer.from('0aff', 'hex')), { code: grpcStatus.INTERNAL, details: 'the message ends inside a field' })
  t.match(await send(Buffer.alloc(4 * 1024 * 1024 + 1)), { code: grpcStatus.RESOURCE_EXHAUSTED }, 'an oversized message')
  t.ok(lines.some(({ code }) => code === 'message_malformed'))
})

void t.test('the end of a call', async t => {
  const handler = { signal: undefined as AbortSignal | undefined, caller: undefined as Caller | undefined, closed: 0 }
  const { channel, server } = await serve(t, [bind(workloadService, {
    async fetchJWTSVID (_request, { signal }) {
      handler.signal = signal
      await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()))
      signal.throwIfAborted()
      return {}
    },
    async * fetchX509SVID (_request, { signal, caller }) {
      Object.assign(handler, { signal, caller })
      try {
        yield {}
        await new Promise(resolve => signal.addEventListener('abort', resolve))
      } finally {
        handler.closed++
      }
    }
  })])
  const client = channel.client(workloadService)
  const reason = () => (handler.signal?.reason as SpiffeError | undefined)?.code

  const cancel = new AbortController()
  const unary = client.fetchJWTSVID({}, { signal: cancel.signal })
  await eventually('the call arrives', () => handler.signal !== undefined)
  cancel.abort(new Error('enough'))
  await t.rejects(unary, { message: 'enough' }, 'a cancelled call fails with the reason of its signal')
  await eventually('the handler learns', () => handler.signal?.aborted === true)
  t.equal(reason(), 'cancelled')

  const earlier = handler.signal
  await t.rejects(client.fetchJWTSVID({}, { timeoutMs: 500 }), rpcError('DEADLINE_EXCEEDED'))
  await eventually('the handler learns', () => handler.signal !== earlier && handler.signal?.aborted === true)
  t.match(reason(), /^(?:deadline_exceeded|cancelled)$/, 'by its own clock or by the caller\'s, whichever is first')
  await t.rejects(client.fetchJWTSVID({}, { signal: AbortSignal.abort(new Error('before')) }), { message: 'before' })

  for await (const _ of client.fetchX509SVID({})) break
  await eventually('leaving the loop cancels the stream', () => handler.signal?.aborted === true && handler.closed === 1)

  const stream = client.fetchX509SVID({})[Symbol.asyncIterator]()
  await stream.next()
  handler.caller?.drop()
  await t.rejects(stream.next(), rpcError('UNAVAILABLE'), 'a dropped caller')
  await eventually('the handler learns', () => handler.closed === 2)
  t.equal(reason(), 'cancelled')

  const last = client.fetchX509SVID({})[Symbol.asyncIterator]()
  await last.next()
  await Promise.all([server[Symbol.asyncDispose](),
    t.rejects(last.next(), { status: 'UNAVAILABLE', code: 'server_stopping' }, 'streams end when the server stops')])
  t.equal(handler.closed, 3)
})

void t.test('stopping waits for single answers, not for ever', async t => {
  const release = new AbortController()
  let started = 0
  const slow = () => bind(entryService, {
    async countEntries () {
      started++
      await new Promise(resolve => release.signal.addEventListener('abort', resolve))
      return { count: 7 }
    },
    async getEntry () {
      started++
      return await new Promise<never>(() => {})
    }
  })
  const { channel, server, path } = await serve(t, [slow()])
  const call = channel.client(entryService).countEntries({})
  await eventually('the call runs', () => started === 1)
  const closing = server[Symbol.asyncDispose]()
  t.notOk(existsSync(path), 'the socket file is gone at once')
  release.abort()
  t.same(await call, { count: 7 })
  await closing

  const stuck = await serve(t, [slow()], { limits: { stopGraceMs: 50 } })
  const never = stuck.channel.client(entryService).getEntry({})
  never.catch(() => undefined)
  await eventually('the call runs', () => started === 2)
  await stuck.server[Symbol.asyncDispose]()
  await t.rejects(never, rpcError('UNAVAILABLE'), 'a handler that never ends is cut off')
})

void t.test('back-pressure', async t => {
  let made = 0
  const message = encoded(X509SVIDResponse, { crl: [randomBytes(64 * 1024)] })
  const { channel } = await serve(t, [bind(workloadService, {
    async * fetchX509SVID () {
      for (;;) {
        made++
        yield message
      }
    }
  })])
  const stream = channel.client(workloadService).fetchX509SVID({})[Symbol.asyncIterator]()
  await stream.next()
  let before = -1
  let still = 0
  await eventually('the handler is no longer asked', async () => {
    still = made === before ? still + 1 : 0
    before = made
    return still > 20
  })
  const paused = made
  t.ok(paused < 1000, `after ${paused} messages of 64 KB to a reader that does not read`)
  for (let i = 0; i < paused + 10; i++) await stream.next()
  t.ok(made > paused, 'and asked again when it reads')
  await stream.return?.()
})

void t.test('many connections, and strange ones', { timeout: 300_000 }, async t => {
  const { channel, path } = await serve(t, [bind(entryService, { countEntries: async () => ({ count: 1 }) })],
    { limits: { maxConnections: 1100 } })
  const pidfds = () => readdirSync('/proc/self/fd').filter(fd => linkOf(fd)?.includes('pidfd')).length
  const client = channel.client(entryService)
  await client.countEntries({})
  const atRest = pidfds()

  const idle = await Promise.all(Array.from({ length: 1000 }, () => connected(path)))
  t.same(await client.countEntries({}), { count: 1 }, '1 000 idle connections do not keep a caller from being served')
  if (atRest > 0) await eventually('each is pinned', () => pidfds() >= atRest + 1000, patienceMs)
  const surplus = await Promise.all(Array.from({ length: 200 }, () => connected(path)))
  await eventually('those above the limit are closed', () => surplus.filter(({ destroyed }) => destroyed).length >= 100, patienceMs)
  for (const socket of [...idle, ...surplus]) socket.destroy()
  await eventually('every pidfd is closed with its connection', () => pidfds() === atRest, patienceMs)

  const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  const garbage = [randomBytes(4096), Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.concat([preface, randomBytes(4096)]),
    preface.subarray(0, 5),
    Buffer.concat([preface, Buffer.from('ffffff0400000000', 'hex')])]
  for (const bytes of garbage) {
    const socket = await connected(path)
    socket.end(bytes)
    socket.resume()
    await eventually('the connection ends', () => socket.destroyed)
    t.same(await client.countEntries({}), { count: 1 },
      `the listener survives ${bytes.subarray(0, 12).toString('latin1').replace(/[^ -~]/g, '.')}`)
  }
})

void t.test('one user cannot take all connections', { skip: process.getuid?.() === 0 ? false : 'needs root to be two users' }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'rpc-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  chmodSync(folder, 0o755)
  const path = join(folder, 'api.sock')
  const { log, lines } = capturedLog()
  const server = openRpcServer({ log, clock: systemClock, services: [], limits: { maxConnectionsPerUser: 2 } })
  t.teardown(() => server[Symbol.asyncDispose]())
  await server.listenUnix({ path, mode: 0o777 })
  const other = python(t, `
kept = []
for i in range(4):
  s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); kept.append(s)
print('connected', flush=True)
sys.stdin.readline()`, [path], 65534)
  await lineOf(other, 'connected')
  await eventually('two are refused', () => lines.filter(({ uid, level }) => uid === 65534 && level === 'warn').length === 2)
  t.equal(lines.filter(({ uid, msg }) => uid === 65534 && msg === 'connection accepted').length, 2, 'and two are let in')
  const mine = await Promise.all(Array.from({ length: 4 }, () => connected(path)))
  t.notOk(mine.some(({ destroyed }) => destroyed), 'we ourselves are exempt')
  for (const socket of mine) socket.destroy()
})

void t.test('nor can root in a container, who is not the machine\'s', { skip: groupsMissing() }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'rpc-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'api.sock')
  const { log, lines } = capturedLog()
  const server = openRpcServer({ log, clock: systemClock, services: [], limits: { maxConnectionsPerUser: 2 } })
  t.teardown(() => server[Symbol.asyncDispose]())
  await server.listenUnix({ path })
  const group = new ContainerGroup(`/assay-test-${process.pid}`)
  t.teardown(() => group[Symbol.dispose]())
  const root = python(t, `
sys.stdin.readline()
kept = []
for i in range(4):
  s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); kept.append(s)
sys.stdin.readline()`, [path])
  group.add(root.pid as number)
  root.stdin.write('go\n')
  await eventually('two are refused', () => lines.filter(({ pid, level }) => pid === root.pid && level === 'warn').length === 2)
  t.equal(lines.filter(({ pid, msg }) => pid === root.pid && msg === 'connection accepted').length, 2, 'and two are let in')
  root.stdin.end('\n')
  await once(root, 'exit')
})

void t.test('the caller is the process that connected', async t => {
  loadSocketOptions()
  const path = join(t.testdir(), 'peer.sock')
  const sockets: Socket[] = []
  const peers: Array<ReturnType<typeof identifyPeer>> = []
  const listener = createServer(socket => { sockets.push(socket); peers.push(identifyPeer(socket)) }).listen(path)
  t.teardown(() => {
    for (const peer of peers) peer[Symbol.dispose]()
    for (const socket of sockets) socket.destroy()
    listener.close()
  })
  await once(listener, 'listening')
  const gone = { name: 'SpiffeError', code: 'caller_gone' }

  const stays = await connected(path)
  await eventually('accepted', () => peers.length === 1)
  t.equal(peers[0]?.pid, process.pid)
  t.doesNotThrow(() => peers[0]?.check(), 'a process that lives on passes')
  stays.destroy()

  const exec = python(t, `
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); os.set_inheritable(s.fileno(), True)
sys.stdin.readline()
os.execvp('sleep', ['sleep', '60'])`, [path])
  await eventually('accepted', () => peers.length === 2)
  t.equal(peers[1]?.pid, exec.pid)
  t.equal(peers[1]?.executableKnown, true)
  t.doesNotThrow(() => peers[1]?.check())
  const program = readlinkSync(`/proc/${exec.pid}/exe`)
  exec.stdin.write('\n')
  await eventually('the program is another', () => readlinkSync(`/proc/${exec.pid}/exe`) !== program)
  t.throws(() => peers[1]?.check(), { ...gone, message: `process ${exec.pid} runs another program now` },
    'WLE-12 connect, exec, ask is refused')

  const fork = python(t, `
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
child = os.fork()
if child == 0:
  time.sleep(60)
print(child, flush=True)
sys.stdin.readline()`, [path])
  const child = Number(await lineOf(fork, ''))
  t.teardown(() => process.kill(child))
  await eventually('accepted', () => peers.length === 3)
  t.doesNotThrow(() => peers[2]?.check())
  fork.stdin.write('\n')
  await once(fork, 'exit')
  t.notOk(sockets[2]?.destroyed, 'the child keeps the connection')
  t.throws(() => peers[2]?.check(), gone, 'WLE-12 it does not inherit the identity')

  peers[0]?.[Symbol.dispose]()
  t.throws(() => peers[0]?.check(), gone, 'nor does anybody once the connection is closed')
})

void t.test('the socket file', async t => {
  const folder = t.testdir({ file: 'text' })
  const path = join(folder, 'deep', 'er', 'api.sock')
  const open = async (path: string, mode?: number) => {
    const server = openRpcServer({ log: silentLogger, clock: systemClock, services: [] })
    t.teardown(() => server[Symbol.asyncDispose]())
    await server.listenUnix({ path, ...mode === undefined ? {} : { mode } })
    return server
  }
  const first = await open(path)
  t.equal(statSync(path).mode & 0o7777, 0o770, 'has its mode, in folders that were missing')
  t.same(readdirSync(join(folder, 'deep', 'er')), ['api.sock'], 'and nothing is left beside it')
  await t.rejects(open(path), { code: 'socket_in_use' }, 'a living listener is not replaced')
  await connected(path).then(socket => socket.destroy())
  await first[Symbol.asyncDispose]()
  t.notOk(existsSync(path), 'is removed in the end')

  const killed = python(t, `
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); print('bound', flush=True)
os.kill(os.getpid(), 9)`, [path])
  await once(killed, 'exit')
  t.ok(existsSync(path), 'a process that was killed leaves its file')
  const second = await open(path, 0o777)
  t.equal(statSync(path).mode & 0o7777, 0o777, 'which is replaced')

  rmSync(path)
  const third = await open(path)
  await second[Symbol.asyncDispose]()
  t.ok(existsSync(path), 'a successor\'s file is left alone')
  await third[Symbol.asyncDispose]()

  await t.rejects(open(join(folder, 'file')), { code: 'file_unusable' }, 'another kind of file is refused')
  t.ok(statSync(join(folder, 'file')).isFile(), 'and kept')
  await t.rejects(open(join(folder, 'file', 'x.sock')), { code: 'file_unusable' })
  await t.rejects(open(join(folder, 'x'.repeat(120))), { code: 'file_unusable', message: /longer than 107 bytes/ })
  writeFileSync(join(folder, 'file'), 'still writable')
})

async function serve (
  t: Test, services: RpcServerOptions['services'], more: Partial<RpcServerOptions> = {}
): Promise<{ server: RpcServer, channel: Channel, path: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'rpc-'))
  const server = openRpcServer({ log: silentLogger, clock: systemClock, services, ...more })
  const { path } = await server.listenUnix({ path: join(folder, 'api.sock') })
  const channel = openUnixChannel(path)
  t.teardown(async () => {
    await channel[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true })
  })
  return { server, channel, path }
}

function rpcError (status: RpcStatusName): { name: string, status: RpcStatusName } {
  return { name: 'RpcError', status }
}

async function collect<T> (stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const one of stream) all.push(one)
  return all
}

async function * eachOf<T> (values: readonly T[]): AsyncGenerator<T> {
  yield * values
}

async function connected (path: string): Promise<Socket> {
  const socket = connect(path)
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

function linkOf (fd: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return undefined
  }
}

/** A process that can fork and exec with a socket open, which Node cannot. */
function python (t: Test, code: string, args: string[], uid?: number): ChildProcessWithoutNullStreams {
  const child = spawn('python3', ['-c', `import os, socket, sys, time${code}`, ...args],
    { cwd: '/', ...uid === undefined ? {} : { uid, gid: uid } })
  child.stderr.on('data', (text: Buffer) => t.comment(text.toString()))
  t.teardown(() => { child.kill('SIGKILL') })
  return child
}

async function lineOf (child: ChildProcessWithoutNullStreams, expected: string): Promise<string> {
  let text = ''
  for await (const chunk of child.stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    text += String(chunk)
    if (text.includes('\n')) break
  }
  if (!text.startsWith(expected)) throw new Error(`unexpected output ${JSON.stringify(text)}`)
  return text.trim()
}

void t.test('a process by its PID', async t => {
  using own = pinProcess(process.pid)
  t.match(own, { pid: process.pid, uid: process.geteuid?.(), gid: process.getegid?.(), executableKnown: true })
  own.check()
  const thread = readdirSync('/proc/self/task').map(Number).find(id => id !== process.pid) as number
  t.throws(() => pinProcess(thread), { code: 'caller_gone' }, 'a thread is no process')

  const child = spawn('sleep', ['60'])
  const exit = once(child, 'exit')
  using pinned = pinProcess(child.pid as number)
  pinned.check()
  child.kill('SIGKILL')
  await exit
  t.throws(() => pinned.check(), { code: 'caller_gone' }, 'its end is noticed')
  t.throws(() => pinProcess(child.pid as number), { code: 'caller_gone', message: `there is no process ${child.pid}` })
})

import { existsSync } from 'node:fs'
import { credentials, Client, Metadata, status as grpcStatus, type ServiceError } from '@grpc/grpc-js'
import t from 'tap'
import type { CallContext, Caller } from '../../src/rpc/call.ts'
import { openUnixChannel } from '../../src/rpc/channel.ts'
import { RpcError, type RpcStatusName } from '../../src/rpc/rpc-error.ts'
import { bind } from '../../src/rpc/server.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { encoded } from '../../src/wire/encoded.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason } from '../../src/wire/generated/types.ts'
import { workloadService, X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { eventually } from '../fakes/eventually.ts'
import { serve } from '../fakes/unix-rpc.ts'

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
  // Where the machine stands still, a deadline may pass before the call has arrived at all.
  for (let timeoutMs = 500; handler.signal === earlier && timeoutMs < 60_000; timeoutMs *= 2) {
    await t.rejects(client.fetchJWTSVID({}, { timeoutMs }), rpcError('DEADLINE_EXCEEDED'))
  }
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

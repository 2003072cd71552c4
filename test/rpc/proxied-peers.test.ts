import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { TlsCaller } from '../../src/rpc/call.ts'
import { openTlsChannel } from '../../src/rpc/channel.ts'
import type { RpcLimits } from '../../src/rpc/limits.ts'
import { bind, openRpcServer } from '../../src/rpc/server.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { binaryEnds, binaryHeader } from '../fakes/proxy-header.ts'

const authority = await createTestAuthority('example.org')
const [trusted, stranger] = ['127.0.0.1', '127.0.0.9']
const line = (address: string, port = 4711) => Buffer.from(`PROXY TCP4 ${address} 198.51.100.1 ${port} 8081\r\n`)

await t.test('a trusted proxy says who calls', async t => {
  const { call, lines } = await serve(t)
  const v6 = binaryEnds({ octets: [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], port: 4713 })
  t.match(await call(line('192.0.2.7')), { address: '192.0.2.7:4711', scope: 'network', svid: { id: 'spiffe://example.org/web' } })
  t.match(await call(binaryHeader({ body: binaryEnds({ octets: [192, 0, 2, 8], port: 4712 }) })), { address: '192.0.2.8:4712' })
  t.match(await call(binaryHeader({ family: 0x21, body: Buffer.concat([v6, Buffer.alloc(1000)]) })), { address: '[2001:db8::9]:4713' })
  t.match(await call(line('127.0.0.1')), { address: '127.0.0.1:4711', scope: 'network' }, 'a word does not make a caller local')
  const itself = { address: /^127\.0\.0\.1:\d+$/, scope: 'loopback' }
  t.match(await call(binaryHeader({ command: 0, family: 0 })), itself, 'LOCAL: itself')
  t.match(await call(Buffer.from('PROXY UNKNOWN\r\n')), itself)
  t.match(await call(Buffer.alloc(0)), itself, 'and so is one that leaves it out')
  t.ok(lines.some(({ msg, address }) => msg === 'client verified' && address === '192.0.2.8:4712'), 'so does the log')
})

await t.test('a header may come in pieces, with TLS behind it or later', async t => {
  const { call } = await serve(t)
  const header = binaryHeader({ body: binaryEnds({ octets: [192, 0, 2, 8], port: 4712 }) })
  t.match(await call(header, { piece: 1 }), { address: '192.0.2.8:4712' }, 'byte by byte')
  t.match(await call(line('192.0.2.7'), { piece: 20 }), { address: '192.0.2.7:4711' })
  t.match(await call(header, { withTls: true }), { address: '192.0.2.8:4712' }, 'in one piece with the client\'s hello')
})

await t.test('whoever else says so is refused, and so is a malformed header', async t => {
  const { call, dial, lines } = await serve(t)
  t.match(await call(Buffer.alloc(0), { from: stranger }), { address: /^127\.0\.0\.9:/ }, 'who sends none is who it is')
  const refused = [
    [line('192.0.2.7'), stranger, 'it does not come from a trusted proxy'],
    [binaryHeader({ command: 0, family: 0 }), stranger, 'it does not come from a trusted proxy'],
    [Buffer.from('PROXY TCP4 nobody\r\n'), trusted, /^a line is not/],
    [binaryHeader({ version: 3 }), trusted, /^version and command/]
  ] as const
  for (const [header, from, reason] of refused) {
    const socket = await dial(from)
    const address = `${from}:${socket.localPort}`
    socket.write(header)
    await eventually('it is cut off', () => socket.destroyed)
    t.match(lines.findLast(({ level }) => level === 'warn'), { msg: 'connection refused: its PROXY header', reason, address })
  }
})

await t.test('who takes too long is sent away, however busily', async t => {
  const { dial, clock } = await serve(t, { handshakeTimeoutMs: 10_000 })
  const [silent, slow] = [await dial(trusted), await dial(trusted)]
  await eventually('both are met', () => clock.sleeping === 2)
  for (const byte of line('192.0.2.7').subarray(0, 9)) {
    slow.write(Buffer.from([byte]))
    await clock.advance(1_000)
    await nextTurn()
  }
  t.notOk(silent.destroyed || slow.destroyed)
  await clock.advance(1_000)
  await eventually('both are gone', () => silent.destroyed && slow.destroyed)
})

await t.test('connections count for the clients, not for their proxy', async t => {
  const { dial, call } = await serve(t, { maxConnectionsPerNetwork: 2 })
  const open = async (client: string) => {
    const socket = await dial(trusted)
    socket.write(line(client))
    return socket
  }
  const others = [await open('192.0.2.1'), await open('192.0.2.2'), await open('192.0.2.3')]
  const [first, second] = [await open('192.0.2.7'), await open('192.0.2.7')]
  const third = await open('192.0.2.7')
  await eventually('the third of one client is closed', () => third.destroyed)
  t.notOk([...others, first, second].some(({ destroyed }) => destroyed), 'nobody else is')
  t.match(await call(line('192.0.2.9')), { address: '192.0.2.9:4711' }, 'there is room for others')
  const own = [await dial(stranger), await dial(stranger), await dial(stranger)]
  await eventually('who is no proxy counts before a word was said', () => own.some(({ destroyed }) => destroyed))
})

await t.test('a server that stops waits for no header', async t => {
  const { dial, stop, clock } = await serve(t)
  const silent = await dial(trusted)
  await eventually('it is met', () => clock.sleeping === 1)
  await stop()
  await eventually('it is sent away', () => silent.destroyed)
})

/** A server that trusts one address, and ways to it. */
async function serve (t: Test, limits: Partial<RpcLimits> = {}) {
  const clock = new ManualClock(new Date())
  const { log, lines } = capturedLog()
  const identity = await authority.issue('/spire/server')
  const web = await authority.issue('/web')
  let caller: TlsCaller | undefined
  const server = openRpcServer({
    services: [bind(entryService, {
      async countEntries (_request, context) {
        caller = context.caller as TlsCaller
        return { count: 1 }
      }
    })],
    log, clock, limits
  })
  const { port } = await server.listenTls({
    host: '127.0.0.1', port: 0, identity: () => identity, bundleOf: () => authority.bundle, isTrustedProxy: address => address === trusted
  })
  t.teardown(() => server[Symbol.asyncDispose]())
  const dial = async (from: string): Promise<Socket> => {
    const socket = connect({ host: '127.0.0.1', port, localAddress: from }).on('error', () => undefined).resume()
    t.teardown(() => { socket.destroy() })
    await once(socket, 'connect')
    return socket
  }
  /** One call through a proxy that begins with the header. */
  const call = async (header: Buffer, { from = trusted, piece = header.length, withTls = false } = {}): Promise<TlsCaller | undefined> => {
    const proxy = createServer(client => {
      client.on('error', () => undefined)
      void dial(from).then(async onward => {
        client.on('close', () => onward.destroy())
        onward.on('close', () => client.destroy()).pipe(client)
        const first = withTls ? Buffer.concat([header, ...await once(client, 'data') as [Buffer]]) : header
        const size = withTls ? first.length : piece
        for (let at = 0; at < first.length; at += size) await new Promise(resolve => onward.write(first.subarray(at, at + size), resolve))
        client.pipe(onward)
      })
    })
    await once(proxy.listen(0, '127.0.0.1'), 'listening')
    const channel = openTlsChannel({
      address: `127.0.0.1:${(proxy.address() as AddressInfo).port}`, identity: () => web, verifyServer: () => undefined, log: silentLogger
    })
    try {
      caller = undefined
      await channel.client(entryService).countEntries({})
      return caller
    } finally {
      await channel[Symbol.asyncDispose]()
      proxy.close()
    }
  }
  return { call, dial, clock, lines, stop: () => server[Symbol.asyncDispose]() }
}

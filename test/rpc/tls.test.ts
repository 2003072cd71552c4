import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectTcp, createServer } from 'node:net'
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import type { TlsCaller } from '../../src/rpc/call.ts'
import { openTlsChannel, type Channel, type TlsChannelOptions } from '../../src/rpc/channel.ts'
import { bind, openRpcServer, type RpcServer, type RpcServerOptions, type TlsListenOptions } from '../../src/rpc/server.ts'
import type { TlsIdentity } from '../../src/rpc/tls-identity.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { workloadService } from '../../src/wire/generated/workload.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { verifyX509Svid } from '../../src/x509/verify-svid.ts'
import { createTestAuthority } from '../fakes/authority.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'

const hour = 3_600_000
const ours = await createTestAuthority('example.org', { subject: { commonName: 'same', serialNumber: '1' } })
const partner = await createTestAuthority('partner.test')
/** Same names as ours in every certificate, other keys. */
const forger = await createTestAuthority('example.org', { subject: { commonName: 'same', serialNumber: '1' } })

void t.test('mutual TLS', async t => {
  const bundles = new Map([ours, partner].map(({ trustDomain, bundle }) => [trustDomain, bundle]))
  const { caller, count } = await serve(t, { bundleOf: trustDomain => bundles.get(trustDomain) })
  const impostor = await createTestAuthority('example.org', { issuer: partner })
  const intermediate = await createTestAuthority('example.org', { issuer: ours })

  await count({ identity: await ours.issue('/web') })
  t.match(caller(), { kind: 'tls', svid: { id: 'spiffe://example.org/web' } }, 'the caller is the ID of its SVID')
  t.match(caller().address, /^127\.0\.0\.1:\d+$/)
  await count({ identity: await intermediate.issue('/web') })
  t.equal(caller().svid?.chain.length, 2, 'a chain of leaf and intermediate')
  await count({ identity: await partner.issue('/billing') })
  t.equal(caller().svid?.id, 'spiffe://partner.test/billing', 'TS-08 another domain by its own bundle')
  await count({})
  t.equal(caller().svid, undefined, 'no certificate: anonymous')
  t.match(caller().connection, /^tls-\d+$/)

  const [past, future] = [(hours: number) => new Date(Date.now() - hours * hour), (hours: number) => new Date(Date.now() + hours * hour)]
  const old = await createTestAuthority('example.org', { notBefore: past(10), notAfter: future(10) })
  const withOld = bundleWith(ours.bundle, old.bundle)
  const refused: Record<string, [TlsIdentity, string]> = {
    'TS-08 a domain\'s CA cannot speak for another domain': [await impostor.issue('/web'), 'x509_chain_untrusted'],
    'TS-08 a CA of the same name with another key': [await forger.issue('/web'), 'x509_chain_untrusted'],
    'a domain whose bundle we do not have': [await (await createTestAuthority('stranger.test')).issue('/web'), 'x509_chain_untrusted'],
    'an SVID that expired': [await old.issue('/web', { notBefore: past(2), notAfter: past(1) }), 'x509_svid_expired'],
    'an SVID that is not valid yet': [await old.issue('/web', { notBefore: future(1), notAfter: future(2) }), 'x509_svid_expired'],
    'an intermediate that was left out': [leafOf(await intermediate.issue('/web')), 'x509_chain_untrusted']
  }
  bundles.set(ours.trustDomain, withOld)
  for (const [what, [identity, code]] of Object.entries(refused)) {
    const before = caller()
    await t.rejects(count({ identity }), { code }, what)
    t.equal(caller(), before, 'its call reaches no handler')
  }
})

void t.test('who is let in', async t => {
  const { log, lines } = capturedLog()
  const bundles = new Map([[ours.trustDomain, ours.bundle]])
  const { count, clock, caller } = await serve(t, {
    clientRequired: true,
    bundleOf: trustDomain => bundles.get(trustDomain),
    acceptClient: ({ id }) => { if (id.endsWith('/bad')) throw new SpiffeError('peer_unauthenticated', `${id} is not wanted`) }
  }, { log })
  await t.rejects(count({}), { status: 'UNAUTHENTICATED', code: 'peer_unauthenticated' }, 'a certificate may be required')
  await t.rejects(count({ identity: await ours.issue('/bad') }),
    { code: 'peer_unauthenticated', message: 'spiffe://example.org/bad is not wanted' })
  t.match(lines.filter(({ msg }) => msg === 'client refused').at(-1),
    { level: 'warn', code: 'peer_unauthenticated', address: /^127\.0\.0\.1:/ }, 'the reason is logged')

  const identity = await partner.issue('/web')
  await t.rejects(count({ identity }), { code: 'x509_chain_untrusted' })
  bundles.set(partner.trustDomain, partner.bundle)
  t.same(await count({ identity }), { count: 1 }, 'a new bundle counts from the next connection on')
  bundles.delete(partner.trustDomain)
  await t.rejects(count({ identity }), { code: 'x509_chain_untrusted' }, 'and a withdrawn one too')

  const short = await ours.issue('/short', { notAfter: new Date(Date.now() + hour / 2) })
  const channel = openChannel(t, addressOf(t), { identity: () => short })
  await channel.client(entryService).countEntries({})
  const first = caller().connection
  await channel.client(entryService).countEntries({})
  t.equal(caller().connection, first, 'a connection serves many calls')
  // A slow machine issued it some seconds after the clock was set.
  await clock.advance(hour)
  await t.rejects(async () => {
    // The connection is cut at once, the client notices a moment later.
    for (;;) await channel.client(entryService).countEntries({})
  }, { code: 'x509_svid_expired' }, 'the connection ends with the SVID it was opened with')
})

void t.test('a client that is refused is told, then cut off', async t => {
  const { clock } = await serve(t)
  const { chain, privateKey } = await forger.issue('/web')
  const socket = await handshake(addressOf(t), { cert: pem('CERTIFICATE', chain[0]), key: pem('PRIVATE KEY', privateKey) })
  await eventually('the server waits', () => clock.sleeping > 0)
  t.notOk(socket.destroyed)
  await clock.advance(2000)
  await eventually('the connection is closed', () => socket.destroyed)
})

void t.test('identities change without a break', async t => {
  let identity = await ours.issue('/spire/server')
  const { server } = await serve(t, { identity: () => identity })
  const shown: string[] = []
  const verifyServer = (chain: readonly Uint8Array[]) => { shown.push(parseCertificate(chain[0] as Uint8Array).serialNumber) }
  const channel = openChannel(t, addressOf(t), { verifyServer })
  const stream = channel.client(workloadService).fetchX509SVID({})[Symbol.asyncIterator]()
  await stream.next()
  identity = await ours.issue('/spire/server')
  server.refreshIdentity()
  const second = openChannel(t, addressOf(t), { verifyServer })
  await second.client(entryService).countEntries({})
  t.equal(shown.length, 2)
  t.not(shown[0], shown[1], 'a new connection sees the new certificate')
  t.equal(shown[1], parseCertificate(identity.chain[0] as Uint8Array).serialNumber)
  for (let i = 0; i < 3; i++) t.equal((await stream.next()).done, false, 'the old one flows on')
  t.equal(shown.length, 2)
  await stream.return?.()
})

void t.test('a connection has an age', async t => {
  const { caller } = await serve(t, {}, { limits: { connectionAgeMs: 200 } })
  const channel = openChannel(t, addressOf(t))
  const stream = channel.client(workloadService).fetchX509SVID({})[Symbol.asyncIterator]()
  await stream.next()
  await channel.client(entryService).countEntries({})
  const first = caller().connection
  await eventually('later calls use a new connection', async () => {
    try {
      await channel.client(entryService).countEntries({})
    } catch (error) {
      // Just as the old one ended, and not begun there: it may be made again.
      t.match(error, { status: 'UNAVAILABLE' })
      return false
    }
    return caller().connection !== first
  })
  t.equal((await stream.next()).done, false, 'a stream that began on the old one goes on')
  await stream.return?.()
})

void t.test('the client decides about the server', async t => {
  await serve(t)
  const check = (bundle: Bundle) => (chain: readonly Uint8Array[]) => {
    const { id } = verifyX509Svid(chain, { bundleOf: () => bundle, at: new Date() })
    if (id !== 'spiffe://example.org/spire/server') throw new SpiffeError('peer_unauthenticated', `${id} is not the server`)
  }
  const { log, lines } = capturedLog()
  const good = openChannel(t, addressOf(t), { verifyServer: check(ours.bundle), log })
  t.same(await good.client(entryService).countEntries({}), { count: 1 })
  t.match(lines, [
    { level: 'debug', msg: 'connected to the server; TLS begins', address: addressOf(t) },
    { level: 'debug', msg: 'server verified', address: addressOf(t), names: /^URI:spiffe:\/\/example.org\//, tls: 'TLSv1.3', expires: /Z$/ }
  ], 'an operator can follow it')
  const bad = openChannel(t, addressOf(t), { verifyServer: check(forger.bundle), log })
  await t.rejects(bad.client(entryService).countEntries({}), { status: 'UNAVAILABLE', code: 'x509_chain_untrusted' },
    'TS-08 the reason is told')
  t.match(lines.find(({ msg }) => msg === 'server refused'), { code: 'x509_chain_untrusted', address: addressOf(t) })
  const bug = openChannel(t, addressOf(t), { verifyServer: () => { throw new TypeError('bug') } })
  await t.rejects(bug.client(entryService).countEntries({}), { status: 'UNAVAILABLE', code: 'peer_unauthenticated' },
    'a check that fails is a refusal')

  let trusted: Bundle = forger.bundle
  const changing = openChannel(t, addressOf(t), { verifyServer: chain => check(trusted)(chain) })
  await t.rejects(changing.client(entryService).countEntries({}), { code: 'x509_chain_untrusted' })
  trusted = ours.bundle
  await eventually('the channel connects anew by itself',
    () => changing.client(entryService).countEntries({}).then(() => true, () => false))
})

void t.test('the listener outlives what it is sent', async t => {
  const { count: countOnce } = await serve(t, {}, { limits: { handshakeTimeoutMs: 100 } })
  // A handshake that should end well may take longer on a busy machine, and is begun anew.
  const patiently = async <T>(what: string, attempt: () => Promise<T>): Promise<T> => {
    const done: T[] = []
    await eventually(what, () => attempt().then(result => done.push(result) > 0, () => false), 60_000)
    return done[0] as T
  }
  const count = () => patiently('a call is answered', () => countOnce({}))
  const [host = '', port] = addressOf(t).split(':')
  for (const bytes of [randomBytes(2000), Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.from('160301', 'hex'), Buffer.alloc(0)]) {
    const socket = connectTcp({ host, port: Number(port) })
    socket.on('error', () => undefined).resume()
    await once(socket, 'connect')
    socket.write(bytes)
    await eventually('the connection is closed', () => socket.destroyed)
    t.same(await count(), { count: 1 }, `after ${bytes.length} bytes`)
  }
  const inside = await patiently('a handshake', () => handshake(addressOf(t), {}))
  inside.write(randomBytes(4096))
  await eventually('the connection is closed', () => inside.destroyed)
  t.same(await count(), { count: 1 }, 'after garbage inside TLS')
  await t.rejects(handshake(addressOf(t), { maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT:@SECLEVEL=0' }),
    'TLS 1.1 is refused')
  const http1 = await patiently('a handshake', () => handshake(addressOf(t), { ALPNProtocols: [] }))
  await eventually('without ALPN h2 the connection is closed', () => http1.destroyed)
})

void t.test('one address cannot have all connections', async t => {
  const { count } = await serve(t, {}, { limits: { maxConnectionsPerNetwork: 2 } })
  const [host = '', port] = addressOf(t).split(':')
  const dial = async () => {
    const socket = connectTcp({ host, port: Number(port), localAddress: '127.0.0.2' })
    t.teardown(() => { socket.destroy() })
    socket.on('error', () => undefined).resume()
    await once(socket, 'connect')
    return socket
  }
  const [first, second] = [await dial(), await dial()]
  const third = await dial()
  await eventually('the third is closed', () => third.destroyed)
  t.notOk(first.destroyed || second.destroyed, 'those before stay')
  t.same(await count({}), { count: 1 }, 'another address has its own')
  first.destroy()
  // Until the server has seen it go.
  await eventually('there is room again', async () => {
    const socket = connectTcp({ host, port: Number(port), localAddress: '127.0.0.2' }).on('error', () => undefined)
    const again = await handshake(addressOf(t), { socket }).catch(() => undefined)
    again?.destroy()
    return again !== undefined
  })
  t.notOk(second.destroyed)
})

void t.test('sessions are not resumed', async t => {
  await serve(t)
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const first = await handshake(addressOf(t), { maxVersion })
    const session = first.getSession()
    first.destroy()
    const second = await handshake(addressOf(t), { maxVersion, session })
    t.equal(second.getProtocol(), maxVersion)
    t.equal(second.isSessionReused(), false, `${maxVersion}: each handshake shows its certificates`)
    second.destroy()
  }
})

void t.test('an address that is taken', async t => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.teardown(() => other.close())
  const { port } = other.address() as { port: number }
  const server = openRpcServer({ services: [], log: silentLogger, clock: new ManualClock(new Date()) })
  const identity = await ours.issue('/spire/server')
  await t.rejects(server.listenTls({ host: '127.0.0.1', port, identity: () => identity, bundleOf: () => undefined }),
    { code: 'address_unusable' })
  await server[Symbol.asyncDispose]()
})

/** A bundle in the middle of a rotation. */
function bundleWith (a: Bundle, b: Bundle): Bundle {
  return { ...a, x509Authorities: [...a.x509Authorities, ...b.x509Authorities] }
}

function leafOf ({ chain, privateKey }: TlsIdentity): TlsIdentity {
  return { chain: chain.slice(0, 1), privateKey }
}

const addresses = new WeakMap<Test, string>()
function addressOf (t: Test): string { return addresses.get(t) as string }

interface Served {
  readonly server: RpcServer
  readonly clock: ManualClock
  readonly address: string
  /** Of the latest call that reached a handler. */
  readonly caller: () => TlsCaller
  /** One call over a connection of its own. */
  readonly count: (options: { identity?: TlsIdentity }) => Promise<unknown>
}

async function serve (t: Test, listen: Partial<TlsListenOptions> = {}, more: Partial<RpcServerOptions> = {}): Promise<Served> {
  const clock = new ManualClock(new Date())
  const identity = await ours.issue('/spire/server')
  let caller: TlsCaller = { kind: 'tls', connection: '', address: '', scope: 'loopback', svid: undefined, drop () {} }
  const server = openRpcServer({
    log: silentLogger, clock,
    services: [
      bind(entryService, { async countEntries (_request, context) { caller = context.caller as TlsCaller; return { count: 1 } } }),
      bind(workloadService, { async * fetchX509SVID () { for (;;) { yield {}; await new Promise(resolve => setImmediate(resolve)) } } })
    ],
    ...more
  })
  const bundles = new Map([ours, partner].map(({ trustDomain, bundle }) => [trustDomain, bundle]))
  const { host, port } = await server.listenTls({
    host: '127.0.0.1', port: 0, identity: () => identity, bundleOf: trustDomain => bundles.get(trustDomain), ...listen
  })
  const address = `${host}:${port}`
  addresses.set(t, address)
  t.teardown(() => server[Symbol.asyncDispose]())
  return {
    server, clock, address,
    caller: () => caller,
    async count ({ identity }) {
      const channel = openChannel(undefined, address, identity === undefined ? {} : { identity: () => identity })
      try {
        return await channel.client(entryService).countEntries({})
      } finally {
        await channel[Symbol.asyncDispose]()
      }
    }
  }
}

function openChannel (t: Test | undefined, address: string, options: Partial<TlsChannelOptions> = {}): Channel {
  const channel = openTlsChannel({ address, verifyServer: () => {}, log: silentLogger, maxBackoffMs: 100, ...options })
  t?.teardown(() => channel[Symbol.asyncDispose]())
  return channel
}

function handshake (address: string, options: ConnectionOptions): Promise<TLSSocket> {
  const [host = '', port] = address.split(':')
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ['h2'], ...options }, () => {
      socket.resume()
      resolve(socket)
    })
    socket.on('error', reject)
  })
}

function pem (label: string, der: Uint8Array | undefined): string {
  return `-----BEGIN ${label}-----\n${Buffer.from(der ?? []).toString('base64')}\n-----END ${label}-----\n`
}

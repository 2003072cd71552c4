import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { bind, openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { encoded } from '../../src/wire/encoded.ts'
import { entryService } from '../../src/wire/generated/server-entry.ts'
import { workloadService, X509SVIDResponse } from '../../src/wire/generated/workload.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ContainerGroup, groupsMissing } from '../fakes/container-group.ts'
import { eventually } from '../fakes/eventually.ts'
import { connected, lineOf, python, serve } from '../fakes/unix-rpc.ts'

/** Of a thousand connections, on a machine that others keep busy. */
const patienceMs = 120_000

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
  await eventually('only this connection is pinned, and none of a test before', () => pidfds() <= 1, patienceMs)
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

function linkOf (fd: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return undefined
  }
}

import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import t from 'tap'
import { askReload } from '../../src/files/ask-reload.ts'
import { awaitServed } from '../../src/files/await-served.ts'
import { filesMetrics } from '../../src/files/files-metrics.ts'
import { Reloader } from '../../src/files/reloader.ts'
import { runCommand } from '../../src/files/run-command.ts'
import { readServedCertificate } from '../../src/files/served-certificate.ts'
import { signalProcess } from '../../src/files/signal-process.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { capturedLog } from '../fakes/captured-log.ts'
import { ManualClock } from '../fakes/clock.ts'
import { eventually } from '../fakes/eventually.ts'
import { freePort } from '../fakes/free-port.ts'
import { TestTrustDomain } from '../fakes/identities.ts'

const folder = mkdtempSync(join(tmpdir(), 'assay-reload-'))
t.teardown(() => rmSync(folder, { recursive: true }))
const never = new AbortController().signal
const minute = 60_000

function sleeper (test: Pick<typeof t, 'teardown'>): ChildProcess {
  const child = spawn('sleep', ['600'], { stdio: 'ignore' })
  test.teardown(() => { child.kill('SIGKILL') })
  return child
}

function pidFile (content: string): string {
  const file = join(folder, 'program.pid')
  writeFileSync(file, content)
  return file
}

void t.test('a signal goes to the process that is meant, and to no other', async t => {
  const child = sleeper(t)
  await once(child, 'spawn')
  const { pid } = child as { pid: number }
  const sent: unknown[] = []
  const kill = (...words: unknown[]): true => { sent.push(words); return true }
  const file = pidFile(`${pid}\n/var/lib/postgresql\n1700000000\n`)
  const config = { file, pid: undefined, program: undefined, signal: 'SIGHUP' as const }
  t.equal(signalProcess(config, kill), pid, 'the first line counts, as in PostgreSQL\'s')
  const runs = spawnSync('readlink', [`/proc/${pid}/exe`], { encoding: 'utf8' }).stdout.trim()
  t.equal(signalProcess({ ...config, program: runs }, kill), pid)
  t.equal(signalProcess({ ...config, file: undefined, pid, program: runs }, kill), pid)
  t.same(sent, [[pid, 'SIGHUP'], [pid, 'SIGHUP'], [pid, 'SIGHUP']])

  const refused = (change: Partial<typeof config> | { program: string }, message: RegExp) =>
    t.throws(() => signalProcess({ ...config, ...change }, kill), { code: 'reload_failed', message })
  refused({ program: '/usr/sbin/nginx' }, /runs .* and not \/usr\/sbin\/nginx, and is left alone/)
  utimesSync(config.file, 1_000, 1_000)
  refused({}, /began after .* was written, so it is another one/)
  t.equal(signalProcess({ ...config, program: runs }, kill), pid, 'what it runs says more than the age of the file')
  for (const text of ['', '0', '1', '-5', 'x', String(process.pid), '1234567890123']) {
    refused({ file: pidFile(text) }, /is no number of a process that could be meant/)
  }
  refused({ file: pidFile('x'.repeat(5_000)) }, /larger than 4096 bytes/)
  refused({ file: join(folder, 'absent') }, /cannot be read: ENOENT/)
  const gone = sleeper(t)
  await once(gone, 'spawn')
  const exited = once(gone, 'exit')
  gone.kill('SIGKILL')
  await exited
  refused({ file: pidFile(String(gone.pid)) }, /there is no process/)
  t.equal(sent.length, 4)
  const signalled = once(child, 'exit')
  signalProcess({ ...config, file: pidFile(String(pid)), signal: 'SIGHUP' })
  t.same(await signalled, [null, 'SIGHUP'], 'and it arrives')
})

void t.test('a command runs without a shell, and its failure is told', async t => {
  await runCommand(['test', '$HOME;x', '=', '$HOME;x'], minute, systemClock, never)
  const refused = (argv: readonly string[], message: RegExp, clock = systemClock, timeoutMs = minute) =>
    t.rejects(runCommand(argv, timeoutMs, clock, never), { code: 'reload_failed', message })
  await refused(['sh', '-c', 'echo what >&2; exit 3'], /command sh failed: it ended with 3; it wrote: what/)
  await refused(['/does/not/exist'], /ENOENT/)
  const clock = new ManualClock()
  const slow = refused(['sleep', '600'], /has not ended within 1000 ms, and was killed/, clock, 1_000)
  await clock.advance(1_000)
  await slow
  await refused(['sh', '-c', 'yes | head -c 5000000; exit 1'], /it wrote: (y\s*){1,500}$/)
  const stop = new AbortController()
  const stopped = runCommand(['sleep', '600'], minute, systemClock, stop.signal)
  stop.abort(new Error('stopped'))
  await t.rejects(stopped, { message: 'stopped' })
  const left = join(folder, 'left')
  await runCommand(['sh', '-c', 'sleep 600 & echo $! > "$0"', left], minute, systemClock, never)
  process.kill(Number(readFileSync(left, 'utf8')), 'SIGKILL')
  t.pass('what it leaves running is not waited for')
})

async function listen (test: Pick<typeof t, 'teardown'>, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  test.teardown(() => { server.close() })
  return (server.address() as AddressInfo).port
}

void t.test('an HTTP request has a program reload', async t => {
  const asked: string[] = []
  let status = 204
  const server = createHttpServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    if (status !== 0) response.writeHead(status).end()
  })
  const port = await listen(t, server)
  t.teardown(() => server.closeAllConnections())
  const reload = { url: new URL(`http://127.0.0.1:${port}/reload?token=secret`), method: 'POST' as const }
  await askReload(reload, minute, systemClock, never)
  t.same(asked, ['POST /reload?token=secret'])
  status = 503
  await t.rejects(askReload(reload, minute, systemClock, never), {
    code: 'reload_failed', message: `POST http://127.0.0.1:${port}/reload was answered with status 503`
  }, 'what is in the query is not told')
  status = 302
  await t.rejects(askReload(reload, minute, systemClock, never), { message: /status 302/ }, 'nor is it sent elsewhere')
  status = 0
  const clock = new ManualClock()
  const slow = askReload(reload, 1_000, clock, never)
  await Promise.all([t.rejects(slow, { message: /no answer within 1000 ms/ }), clock.advance(1_000)])
  server.closeAllConnections()
  server.close()
  await t.rejects(askReload(reload, minute, systemClock, never), { code: 'reload_failed', message: /ECONNREFUSED/ })
})

void t.test('what a server shows is read, with TLS and as PostgreSQL does it', async t => {
  const domain = await TestTrustDomain.create('example.org')
  const svid = await domain.issue('/web')
  const [leaf] = svid.chain as [Uint8Array]
  const options = { cert: encodePem('CERTIFICATE', leaf), key: encodePem('PRIVATE KEY', svid.privateKey) }
  const names: unknown[] = []
  // It wants a certificate of whoever calls, as a server of a mesh does.
  const secure = createTlsServer({
    ...options, requestCert: true, rejectUnauthorized: true, ca: encodePem('CERTIFICATE', domain.root),
    SNICallback: (name, done) => { names.push(name); done(null) }
  }, socket => { socket.on('error', () => {}).end() })
  secure.on('tlsClientError', () => {})
  const where = { host: '127.0.0.1', port: await listen(t, secure), protocol: 'tls' as const, serverName: 'web.example.org' }
  const own = await domain.issue('/files')
  const shown = { cert: encodePem('CERTIFICATE', own.chain[0] as Uint8Array), key: encodePem('PRIVATE KEY', own.privateKey) }
  t.ok((await readServedCertificate(where, shown, systemClock, never)).equals(leaf))
  t.same(names, ['web.example.org'])

  let answer = 'S'
  const database = createServer(socket => {
    socket.on('error', () => {}).once('data', request => {
      t.same([...request], [0, 0, 0, 8, 4, 210, 22, 47], 'SSLRequest')
      socket.write(answer)
      if (answer === 'S') secure.emit('connection', socket)
    })
  })
  const postgres = { ...where, port: await listen(t, database), protocol: 'postgres' as const }
  t.ok((await readServedCertificate(postgres, shown, systemClock, never)).equals(leaf))
  const refused = (where: Parameters<typeof readServedCertificate>[0], message: RegExp) =>
    t.rejects(readServedCertificate(where, undefined, systemClock, never), { code: 'svid_not_served', message })
  answer = 'N'
  await refused(postgres, /PostgreSQL answers that it has no TLS/)
  answer = 'SSSS'
  await refused(postgres, /no TLS/)
  const plain = createServer(socket => { socket.on('error', () => {}).end('HTTP/1.1 400 Bad Request\r\n\r\n') })
  await refused({ ...where, port: await listen(t, plain) }, /does not answer with TLS/)
  const silent = createServer(socket => { socket.on('error', () => {}) })
  const clock = new ManualClock()
  const waiting = readServedCertificate({ ...where, port: await listen(t, silent) }, undefined, clock, never)
  await Promise.all([t.rejects(waiting, { message: /no handshake within 5000 ms/ }), clock.advance(5_000)])
})

void t.test('newer files do not wait for what can not be served any more', async t => {
  const domain = await TestTrustDomain.create('example.org')
  const serials: unknown[] = []
  const { log, lines } = capturedLog()
  const port = await freePort()
  const reloader = new Reloader({
    config: {
      signalled: undefined, reload: { command: undefined, http: undefined, timeoutMs: minute },
      serves: { host: '127.0.0.1', port, protocol: 'tls', serverName: undefined, withinMs: 60 * minute }
    },
    child: { tell: async () => { serials.push(serials.length) } },
    clock: systemClock, log, metrics: filesMetrics(undefined, { svidExpiresAt: () => 0 }), onReloaded: async () => {}, onTrouble: () => {}
  })
  const deliver = async () => {
    const { id, chain, privateKey } = await domain.issue('/web')
    const leaf = parseCertificate(chain[0] as Uint8Array)
    reloader.take({ x509: { id, hint: '', chain, leaf, privateKey, authorities: [], federated: new Map() }, mark: leaf.serialNumber })
  }
  const stop = new AbortController()
  const running = reloader.run(stop.signal)
  for (let told = 1; told <= 3; told++) {
    await deliver()
    await eventually(`the program was told ${told} times`, () => serials.length === told, minute)
  }
  stop.abort(new Error('stopped'))
  await running.catch(() => {})
  t.equal(serials.length, 3)
  t.same(lines, [], 'and nobody is blamed')
})

void t.test('the new certificate must be seen three times in a row, in time', async t => {
  const domain = await TestTrustDomain.create('example.org')
  const issue = async () => Buffer.from((await domain.issue('/web')).chain[0] as Uint8Array)
  const [old, fresh] = [await issue(), await issue()]
  const leaf = parseCertificate(fresh)
  const config = { host: 'db', port: 5_432, protocol: 'tls' as const, serverName: undefined, withinMs: 1_000 }
  const look = async (answers: (Buffer | string)[]) => {
    const clock = new ManualClock()
    const read = async () => {
      const next = answers.length > 1 ? answers.shift() : answers[0]
      if (typeof next === 'string') throw new SpiffeError('svid_not_served', next)
      return next as Buffer
    }
    const awaiting = awaitServed(config, leaf, { cert: '', key: '' }, { clock, read }, never)
    const over = new AbortController()
    const outcome = awaiting.then(() => 'served', (error: Error) => error.message).finally(() => over.abort())
    while (!over.signal.aborted) await clock.advance(100)
    return [await outcome, answers.length] as const
  }
  t.same(await look([fresh, fresh, old, fresh, fresh, fresh, old]), ['served', 1], 'one of several processes had the old one yet')
  t.same(await look(['ECONNREFUSED', old, fresh]), ['served', 1])
  const serial = parseCertificate(old).serialNumber
  t.match((await look([old]))[0],
    new RegExp(`^db:5432 does not serve serial ${leaf.serialNumber} 1 s after the reload: it shows serial ${serial} of spiffe://example.org/web`))
  t.match((await look(['nobody answers']))[0], /after the reload: nobody answers$/)
})
